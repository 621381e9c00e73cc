"""Command that makes a video again, from what its file states of its making."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fashionflow_core.config import EncodeOptions
from fashionflow_core.errors import command

# Key in the file → setting of the command.
_KEPT = {
    "guidance": "guidance_scale",
    "turn": "motion_amount",
    **{
        key: key
        for key in (
            *("interpolate", "motion", "fit", "lock", "conditioning", "background", "matte"),
            *("for", "ratio", "visible_mark", "caption", "font", "logo", "logo_place", "logo_opacity"),
            *("end_card", "end_card_seconds"),
        )
    },
}
_OF_GENERATOR = ("prompt", "negative_prompt", "megapixels")
_OF_ENCODER = ("crf", "codec", "encoder")
_SAMPLING = ("model", "seed", "steps", "scheduler")


def encoding(options: EncodeOptions) -> dict[str, str]:
    """Metadata on how a video is encoded: what differs from the defaults, so that default bytes stay the same."""
    default = EncodeOptions()
    found = {name: getattr(options, name) for name in _OF_ENCODER}
    return {f"fashionflow_{name}": str(value) for name, value in found.items() if value != getattr(default, name)}


def relocked(stored: Mapping[str, str], level: str, options: EncodeOptions) -> dict[str, str]:
    """Metadata of a locked video: what that of its source states of the model, and how it was locked and encoded.

    Args:
        stored: metadata of the source.
        level: of the lock.
        options: of the locked file.
    """
    encoder = {f"fashionflow_{name}" for name in _OF_ENCODER}
    found = {key: value for key, value in stored.items() if key.startswith("fashionflow_") and key not in encoder}
    return found | {"fashionflow_command": "lock", "fashionflow_lock": level} | encoding(options)


def again(path: Path, settings: Mapping[str, str], frames: int, fps: float, size: tuple[int, int], marked: bool) -> str:
    """The command that makes a video again from the same photo or video; empty if the file does not state enough.

    Args:
        path: the file, whose name the command writes to.
        settings: what FashionFlow wrote into it, without prefix.
        frames, fps, size: of the file, size as (height, width).
        marked: whether the file is marked as generated.
    """
    by = settings.get("command", "generate")
    if by == "lock":
        options: dict[str, Any] = {"photo": "PHOTO", "out": path.name, "level": settings.get("lock", "full")}
        options |= _given(settings, "background")
        return _line("lock", "VIDEO", options | _encoded(settings, marked))
    if not set(_SAMPLING) <= settings.keys():
        return ""
    if by == "interpolate":
        options = {"out": path.name, "factor": _number(settings, "interpolate", 1)}
        options |= _given(settings, *_SAMPLING, "fit", "fps", "frames")
        return _line("interpolate", "VIDEO", options | _encoded(settings, marked))
    options = _of_photo(path, settings, frames, fps, size)
    return _line("generate", "PHOTO", options | _encoded(settings, marked))


def _of_photo(
    path: Path, settings: Mapping[str, str], frames: int, fps: float, size: tuple[int, int]
) -> dict[str, Any]:
    # Of finished files these are what was generated.
    frames, shown = _number(settings, "frames", 0) or frames, settings.get("size", f"{size[0]}x{size[1]}")
    filled, item = (_number(settings, key, default) for key, default in (("interpolate", 1), ("item", 0)))
    loop = settings.get("loop") == "true"
    options: dict[str, Any] = {
        # Item 2 of `v.mp4` is the last one of three variations, v-3.mp4.
        "out": path.name if item == 0 else path.stem.removesuffix(f"-{item + 1}") + path.suffix,
        "model": settings["model"],
        "seed": settings["seed"],
        "frames": frames // filled if loop else (frames - 1) // filled + 1,
        "fps": settings.get("fps", f"{fps:g}"),
        "steps": settings["steps"],
        "scheduler": settings["scheduler"],
    }
    options |= {name: settings[key] for key, name in _KEPT.items() if key in settings}
    if "guidance_interval" in settings:
        options["guidance_interval"] = settings["guidance_interval"].replace(" ", ",")
    if loop:
        options["loop"] = True
    if "motion" in settings:
        options["size"] = shown
        options.pop("conditioning", None)
    if settings["scheduler"] == "own" or "prompt" in settings or "megapixels" in settings:  # of a generator
        if "duration" in settings:  # frames are chosen by it
            del options["frames"]
            options["duration"] = settings["duration"]
        if options["scheduler"] == "own":
            del options["scheduler"]
        options |= _given(settings, *_OF_GENERATOR)
    if item:
        options["variations"] = item + 1
    return options


def _encoded(settings: Mapping[str, str], marked: bool) -> dict[str, Any]:
    return _given(settings, *_OF_ENCODER) | ({} if marked else {"no_mark": True})


def _given(settings: Mapping[str, str], *keys: str) -> dict[str, Any]:
    return {key: settings[key] for key in keys if key in settings}


def _line(name: str, source: str, options: Mapping[str, Any]) -> str:
    # Files may come from anybody: pasted into a shell, each value is one word.
    quoted = {key: shlex.quote(value) if isinstance(value, str) else value for key, value in options.items()}
    return command(name, source, **quoted)


def _number(settings: Mapping[str, str], key: str, default: int) -> int:
    """A whole number above `default` that a file gives; `default` for any other text."""
    text = settings.get(key, "")
    return max(default, int(text)) if text.isascii() and text.isdigit() and len(text) < 6 else default
