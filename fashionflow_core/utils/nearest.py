"""Nearest known name of a misspelt one, for "did you mean"."""

import difflib
import re
from collections.abc import Iterable

CLOSE = 0.75  # similarity above which a spelling counts as a typo


def nearest(name: str, known: Iterable[str]) -> str:
    """The most similar known name; empty if none is close.

    Typos come first (`lora_rnk`), then abbreviations (`learning_rate` → `lr`), similar spellings, and names whose
    words are all in the other (`num_inference_steps` → `steps`).
    """
    names = {_plain(one): one for one in known}
    plain = _plain(name)
    words = _last(plain).split("_")
    initials = "".join(word[:1] for word in words)
    found = (
        difflib.get_close_matches(plain, names, n=1, cutoff=CLOSE)
        or [one for one in names if len(words) > 1 and _last(one) == initials]
        or difflib.get_close_matches(plain, names, n=1)
        or sorted((one for one in names if _share_words(_last(one).split("_"), words)), key=len, reverse=True)
    )
    return names[found[0]] if found else ""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`did you mean NAME? `, the start of a hint; empty if no known name is close."""
    near = nearest(name, known)
    return f"did you mean {near}? " if near else ""


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _share_words(one: list[str], other: list[str]) -> bool:
    return set(one) <= set(other) or set(other) <= set(one)
