"""Damaged videos, lists, settings, manifests and models, each from its number.

    python mutated_files.py KIND FOLDER FIRST LAST

reads those of a kind through the function that the commands read them with, and prints what came out as JSON.
"""

import faulthandler
import json
import random
import shutil
import struct
import sys
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from mutations import INTERESTING, peak

SECONDS = 20.0  # of a processor, that a file may take
HANGS = 240.0  # seconds, also on a busy machine
VALUES = (
    None,
    True,
    -1,
    0,
    1,
    2.5,
    10**9,
    10**30,
    float("nan"),
    float("inf"),
    "",
    "x",
    "../../etc/passwd",
    "\x1b[2J",
    [],
    {},
    [[]],
)
TEXTS = (
    b"\x00",
    b"\xff\xfe",
    b"\r",
    b"\n\n",
    b'"',
    b",",
    b";",
    b"\t",
    b"{",
    b"]",
    b": ",
    b"&a *a ",
    b"\x1b[31m",
    b"1e999",
    b"#",
    b"- ",
)


def damaged(data: bytes, rng: random.Random, text: bool) -> bytes:
    """Bytes with one to four kinds of damage."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if len(found) < 8:
            break
        at = rng.randrange(min(len(found), rng.choice((64, 600, len(found), len(found)))))
        kind = rng.randrange(7)
        if kind == 0:
            found[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del found[at + 1 :]
        elif kind == 2:
            del found[at : at + rng.choice((1, 2, 4, 50))]
        elif kind == 3:
            size = rng.choice((1, 4, 12, 64))
            found[at:at] = found[at : at + size] * rng.choice((1, 2, 50))
        elif kind == 4 and text:
            found[at:at] = rng.choice(TEXTS)
        elif kind == 5 or not text:
            layout = rng.choice((">I", "<I", ">H", "<Q", "B"))
            size = struct.calcsize(layout)
            found[at : at + size] = struct.pack(layout, rng.choice(INTERESTING) & (1 << 8 * size) - 1)
        else:
            for _ in range(rng.randrange(1, 20)):
                found[rng.randrange(len(found))] = rng.randrange(256)
    return bytes(found)


def changed(value: Any, rng: random.Random) -> Any:
    """JSON with one value, somewhere in it, replaced, removed or wrapped."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        result = dict(value)
        if rng.random() < 0.1:
            del result[key]
        else:
            result[key] = changed(value[key], rng)
        return result
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return [*value[:at], changed(value[at], rng), *value[at + 1 :]]
    return rng.choice(VALUES)


@cache
def videos() -> tuple[tuple[str, bytes], ...]:
    """Small good videos by suffix."""
    import tempfile

    from fashionflow_core import video

    frames = [np.full((48, 64, 3), 20 * k, np.uint8) for k in range(10)]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".mp4", ".webm", ".gif", ".webp"):
            path = Path(folder, f"v{suffix}")
            video.write(iter(frames), path, fps=10, count=len(frames))
            found.append((suffix, path.read_bytes()))
    return tuple(found)


def read_video(folder: Path, number: int, rng: random.Random) -> None:
    from fashionflow_core.video import reading

    suffix, data = videos()[number % len(videos())]
    path = folder / f"v{suffix}"
    path.write_bytes(damaged(data, rng, text=False))
    reading.probe(path)
    frames = reading.read(path)
    assert frames.dtype == np.uint8 and frames.ndim == 4 and len(frames)
    reading.read_metadata(path)


LISTS = (
    (".txt", b"a.jpg\n# note\nb.jpg\n'c d.jpg'\nhttps://shop.example/x.jpg?w=1\n"),
    (".csv", "photo,seed,name,frames\r\na.jpg,1,eins,70\r\nb.jpg,,zwei,\r\n".encode("utf-16")),
    (".csv", b"sep=;\nphoto;seed;name\na.jpg;1;eins\nb.jpg;2;zwei\n"),
    (".jsonl", b'{"photo": "a.jpg", "seed": 3}\n{"photo": "b.jpg", "name": "zwei", "loop": true}\n'),
)


def read_list(folder: Path, number: int, rng: random.Random) -> None:
    from fashionflow_core.catalogue.inputs import read_inputs

    suffix, data = LISTS[number % len(LISTS)]
    path = folder / f"list{suffix}"
    path.write_bytes(damaged(data, rng, text=True))
    for name in ("a.jpg", "b.jpg", "c d.jpg"):
        (folder / name).touch()
    for entry in read_inputs([str(path)], folder / "out", bytes).entries:
        assert entry.source


SETTINGS = (
    b"steps: 12\nguidance: 1.5\nsize: 640x512\nbackground: '#ffeedd'\nloop: true\nseed: 0\n",
    b"data:\n  path: runs\n  batch_size: 4\noptimizer: {lr: 1.0e-3, adam_betas: [0.9, 0.99]}\n",
    b'{"steps": 12, "fps": 25, "prompt": "a \\u00e9", "list": [1, 2, [3]]}\n',
)


def read_settings(folder: Path, number: int, rng: random.Random) -> None:
    from fashionflow_core.utils.settings_files import read_mapping

    path = folder / "settings.yaml"
    path.write_bytes(damaged(SETTINGS[number % len(SETTINGS)], rng, text=True))
    assert isinstance(read_mapping(path), dict)


LINE = {
    "item": "a",
    "source": "/photos/a.jpg",
    "status": "done",
    "attempt": 1,
    "time": "2026-01-01T00:00:00+00:00",
    "seed": 1,
    "variation": 0,
    "input_hash": "0" * 64,
    "input_bytes": 5,
    "input_mtime_ns": 1,
    "settings_hash": "f",
    "model": "mini",
    "model_revision": "r",
    "output": "a.mp4",
    "output_bytes": 9,
    "poster": "a.jpg",
    "frames": 70,
    "fps": 25.0,
    "height": 96,
    "width": 72,
    "codec": "h264",
    "seconds": {"total": 1.5},
    "flags": ["blur"],
    "scores": {"garment_drift": 1.0},
    "warnings": ["no figure found"],
    "stage": "photo",
    "hint": "try again",
    "error_class": "PhotoError",
    "message": "damaged",
}


def read_manifest(folder: Path, number: int, rng: random.Random) -> None:
    from fashionflow_core.catalogue import gallery
    from fashionflow_core.catalogue.manifest import states_of

    lines = [{**LINE, "item": name, "status": status} for name, status in zip("abc", ("done", "failed", "lost"))]
    at = rng.randrange(3)
    if number % 2:
        lines[at] = changed(lines[at], rng)
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    out = folder / "out"
    out.mkdir(exist_ok=True)
    (out / "manifest.jsonl").write_bytes(data if number % 2 else damaged(data, rng, text=True))
    states_of(out)
    gallery.build(out)
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "\x1b" not in page and 'href="../' not in page and 'src="../' not in page


def read_model(folder: Path, number: int, rng: random.Random) -> None:
    from tiny import build_tiny_model
    from tiny_motion import build_tiny_motion_model

    from fashionflow_core.pipeline import load
    from fashionflow_core.store import registry

    kind = ("latent", "motion")[number % 2]
    whole = folder / kind
    if not whole.is_dir():
        (build_tiny_model if kind == "latent" else build_tiny_motion_model)(whole)
    broken = folder / "broken"
    shutil.rmtree(broken, ignore_errors=True)
    shutil.copytree(whole, broken)
    path = rng.choice(sorted(p for p in broken.rglob("*") if p.is_file()))
    if path.suffix == ".json" and rng.random() < 0.7:
        path.write_text(json.dumps(changed(json.loads(path.read_text()), rng)))
    else:
        path.write_bytes(damaged(path.read_bytes(), rng, text=path.suffix == ".json"))
    registry.show(str(broken))
    load(broken)


KINDS: dict[str, Callable[[Path, int, random.Random], None]] = {
    "videos": read_video,
    "lists": read_list,
    "settings": read_settings,
    "manifests": read_manifest,
    "models": read_model,
}


def read_all(kind: str, folder: Path, first: int, last: int) -> dict[str, Any]:
    """What came of the files of these numbers; a crash or a hang ends the process, `folder` tells where."""
    from fashionflow_core.errors import FashionFlowError

    warnings.simplefilter("ignore")
    found: dict[str, Any] = {"read": 0, "refused": 0, "wrong": [], "slowest": [0.0, -1], "largest": [0, -1]}
    for number in range(first, last):
        (folder / "number").write_text(str(number))
        faulthandler.dump_traceback_later(HANGS, exit=True)
        start = time.process_time()
        try:
            KINDS[kind](folder, number, random.Random(number))
            found["read"] += 1
        except FashionFlowError as error:
            found["refused"] += 1
            said = f"{error.message}{error.hint or ''}"
            if "\n" in said or any(ord(c) < 32 or ord(c) == 127 for c in said) or "internal" in said:
                found["wrong"].append([number, said])
        except Exception as error:
            found["wrong"].append([number, repr(error)[:300]])
        found["slowest"] = max(found["slowest"], [time.process_time() - start, number])
        found["largest"] = max(found["largest"], [peak(), number])
    faulthandler.cancel_dump_traceback_later()
    return found


if __name__ == "__main__":
    print(json.dumps(read_all(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
