"""What a video file says of its making: model, seed, settings, marks, and the command that makes it again."""

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fashionflow_core.errors import FashionFlowError, command
from fashionflow_core.video import marking, reading

_PREFIX = "fashionflow_"
# Key in the file → setting of a request.
_OPTIONS = {
    "guidance": "guidance_scale",
    "interpolate": "interpolate",
    "motion": "motion",
    "turn": "motion_amount",
    "fit": "fit",
    "conditioning": "conditioning",
}


@dataclass(frozen=True)
class Provenance:
    """What a file says of itself.

    Attributes:
        path: the file.
        source_type: IPTC DigitalSourceType; empty: not marked.
        settings: what FashionFlow wrote: model, seed, scheduler, steps, ...; empty: made by something else.
        other: further metadata, such as a title.
        frames, fps, height, width, codec: of the video; 0 and empty of a picture.
        again: the command that makes the same video of the same photo; empty if the file does not say enough.
    """

    path: str
    source_type: str
    settings: dict[str, str]
    other: dict[str, str]
    frames: int = 0
    fps: float = 0.0
    height: int = 0
    width: int = 0
    codec: str = ""
    again: str = ""

    def to_json(self) -> dict[str, Any]:
        """All fields by name."""
        return asdict(self)


def inspect(path: Path) -> Provenance:
    """Read what a video or picture says of itself; nothing of it is verified.

    Raises:
        FashionFlowError: no such file, or neither video nor picture.
    """
    if not path.is_file():
        raise FashionFlowError(f"{path}: not a file", hint="name one video or picture")
    source = marking.read(path)
    if is_picture(path):
        return Provenance(str(path), source, {}, {})
    stored = reading.read_metadata(path)
    settings = {key.removeprefix(_PREFIX): value for key, value in stored.items() if key.startswith(_PREFIX)}
    found = reading.inspect(path, count=False)
    fps = float(found.rate)
    return Provenance(
        str(path),
        source,
        settings,
        {key: value for key, value in stored.items() if not key.startswith(_PREFIX)},
        found.frames,
        fps,
        found.height,
        found.width,
        found.codec,
        _again(path, settings, found.frames, fps, (found.height, found.width)),
    )


def is_picture(path: Path) -> bool:
    """Whether a file is a JPEG or PNG, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(8)
    return head.startswith((b"\xff\xd8\xff", b"\x89PNG"))


def _again(path: Path, settings: dict[str, str], frames: int, fps: float, size: tuple[int, int]) -> str:
    if not {"model", "seed", "steps", "scheduler"} <= settings.keys():
        return ""
    filled, item = (_number(settings, key, default) for key, default in (("interpolate", 1), ("item", 0)))
    # Item 2 of `v.mp4` is the last one of three variations, v-3.mp4.
    name = path.name if item == 0 else path.stem.removesuffix(f"-{item + 1}") + path.suffix
    options: dict[str, Any] = {
        "out": name,
        "model": settings["model"],
        "seed": settings["seed"],
        "frames": frames // filled,
        "fps": f"{fps:g}",
        "steps": settings["steps"],
        "scheduler": settings["scheduler"],
    }
    options |= {name: settings[key] for key, name in _OPTIONS.items() if key in settings}
    # Texts of a stranger's file: pasted into a shell, they are words and nothing else.
    options = {key: shlex.quote(value) if isinstance(value, str) else value for key, value in options.items()}
    if settings.get("loop") == "true":
        options["loop"] = True
    if "motion" in settings:
        options["size"] = f"{size[0]}x{size[1]}"
        del options["conditioning"]
    if item:
        options["variations"] = item + 1
    return command("generate", "PHOTO", **options)


def _number(settings: dict[str, str], key: str, default: int) -> int:
    """A whole number above `default` that a file gives; `default` for any other text."""
    text = settings.get(key, "")
    return max(default, int(text)) if text.isascii() and text.isdigit() and len(text) < 6 else default
