"""Video requests: HTTP fields converted to generation settings and checked against model and limits."""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from fashionflow_core.config import FRAME_DIVISOR, GenerateSettings, ModelConfig, ResolvedSettings
from fashionflow_core.errors import UsageError
from fashionflow_core.serve.settings import ServerLimits
from fashionflow_core.utils.nearest import did_you_mean

MOST_VARIATIONS = 8
_MOST_TEXT = 4000  # characters of a prompt
_SHORTEST_SIDE = 32  # pixels, of a video
_MOST_STEPS = 1000  # noise levels that models are trained with; more steps would repeat some
# Fields of other servers of this API without effect here: accepted, so that their clients work, and noted.
_WITHOUT_EFFECT = frozenset(
    (
        "background",
        "boundary_ratio",
        "diffusers_kwargs",
        "enable_frame_interpolation",
        "enable_teacache",
        "flow_shift",
        "frame_interpolation_exp",
        "frame_interpolation_scale",
        "generate_sound",
        "generator_device",
        "guidance_scale_2",
        "n",
        "negative_prompt",
        "output_compression",
        "output_format",
        "output_quality",
        "quality",
        "response_format",
        "sound_duration",
        "true_cfg_scale",
        "user",
    )
)


class RequestError(UsageError):
    """Invalid field of a request.

    Args:
        field: its name.
        problem: what is wrong.
    """

    def __init__(self, field: str, problem: str, hint: str) -> None:
        super().__init__(f"{field}: {problem}", hint)
        self.field = field


def _whole(value: Any) -> int:
    number = _number(value)
    if number != int(number):
        raise ValueError("not a whole number")
    # Not by way of a float, which has 53 bits: seeds have 63.
    if isinstance(value, str):
        return int(value.strip().partition(".")[0])
    return value if isinstance(value, int) else int(number)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError("not a number")
    if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,19}(\.[0-9]{1,9})?", value.strip()):
        raise ValueError("not a number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not a number")
    return number


def _yes(value: Any) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(value, bool):
        return value
    if str(value).lower() not in known:
        raise ValueError("not true or false")
    return known[str(value).lower()]


def _word(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 40:
        raise ValueError("not a word")
    return value


_EXTRA: dict[str, Callable[[Any], Any]] = {
    "frames": _whole,
    "fps": _number,
    "steps": _whole,
    "scheduler": _word,
    "fit": _word,
    "guidance_scale": _number,
    "conditioning": _word,
    "interpolate": _whole,
    "motion": _word,
    "motion_amount": _number,
    "loop": _yes,
    "duration": _number,
    "seed": _whole,
}
# Names that vLLM-Omni and SGLang use, and those of this program.
_SYNONYMS = {
    "num_frames": "frames",
    "fps": "fps",
    "num_inference_steps": "steps",
    "guidance_scale": "guidance_scale",
    "seed": "seed",
}


@dataclass(frozen=True)
class VideoRequest:
    """Accepted request, as it is stored.

    Attributes:
        id: of the video; also the name of its files.
        created: seconds since 1970.
        photo: file name in the folder of photos.
        photo_name: file name at the client, for display.
        prompt: caption.
        settings: requested fields of `GenerateSettings`, and the seed.
        variation: number that, with the seed, determines the random noise.
        group: id of the first video of the same photo; shared by variations.
        size: requested WIDTHxHEIGHT, or empty.
        seconds: length of the video.
        again_of: id of the video that this one was requested instead of, or empty.
        idempotency: hash of client and Idempotency-Key, or empty.
        digest: of the request (`Upload.digest`).
        notes: about fields without effect.
        item: name in the manifest of a video that `generate` made in the same folder; empty: its id.
    """

    id: str
    created: float
    photo: str
    photo_name: str
    prompt: str
    settings: Mapping[str, Any]
    variation: int = 0
    group: str = ""
    size: str = ""
    seconds: float = 0.0
    again_of: str = ""
    idempotency: str = ""
    digest: str = ""
    notes: tuple[str, ...] = ()
    item: str = ""

    def generate_settings(self) -> GenerateSettings:
        """The settings."""
        values = dict(self.settings)
        if isinstance(values.get("size"), list):
            values["size"] = tuple(values["size"])
        return GenerateSettings(**values)

    def as_json(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The request of such fields.

        Raises:
            TypeError, KeyError: other fields.
        """
        return cls(**{**values, "notes": tuple(values.get("notes", ()))})


@dataclass(frozen=True)
class AskedVideo:
    """Checked fields of a request.

    Attributes:
        prompt: caption.
        settings: requested fields of `GenerateSettings`.
        resolved: all settings, with defaults of the model.
        size: requested WIDTHxHEIGHT, or empty.
        variations: videos to make.
        notes: about fields without effect.
    """

    prompt: str
    settings: Mapping[str, Any]
    resolved: ResolvedSettings
    size: str = ""
    variations: int = 1
    notes: tuple[str, ...] = field(default=())

    @property
    def seconds(self) -> float:
        """Length of the video."""
        return self.resolved.video_frames / self.resolved.fps


def nested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields with names such as `extra[motion]` as a dictionary in a dictionary, one level deep."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        match = re.fullmatch(r"([a-z_]{1,40})\[([a-z_]{1,40})\]", name)
        if match is None:
            found[name] = value
        else:
            inner = found.setdefault(match[1], {})
            if not isinstance(inner, dict):
                raise RequestError(match[1], "given twice", hint="send it once")
            inner[match[2]] = value
    return found


def read_fields(fields: Mapping[str, Any], model: ModelConfig, limits: ServerLimits) -> AskedVideo:
    """Convert the fields of a request, without photo and model.

    Args:
        fields: of a form or of JSON, after `nested`. `size` is WIDTHxHEIGHT, as in OpenAI's API.

    Raises:
        UsageError: unknown field, invalid value, or above a limit.
    """
    settings: dict[str, Any] = {}
    notes: list[str] = []
    prompt, size, variations = "", "", 1
    for name, value in fields.items():
        if value is None or value == "":
            continue
        if name == "prompt":
            prompt = _prompt(value)
        elif name == "size":
            settings["size"], size = _size(value, limits)
        elif name == "seconds" and fields.get("num_frames"):
            notes.append("seconds has no effect beside num_frames")
        elif name == "seconds":
            settings |= _length(_converted("seconds", _number, value), fields, model)
        elif name == "variations":
            variations = _variations(value)
        elif name in _SYNONYMS:
            settings[_SYNONYMS[name]] = _converted(name, _EXTRA[_SYNONYMS[name]], value)
        elif name in ("extra", "extra_params"):
            for key, inner in _object(name, value).items():
                if key == "variations":
                    variations = _variations(inner)
                elif key in _EXTRA:
                    settings[key] = _converted(key, _EXTRA[key], inner)
                else:
                    hint = did_you_mean(key, list(_EXTRA)) or f"known are: {', '.join(_EXTRA)}, variations"
                    raise RequestError(name, f"unknown setting {key!r}", hint)
        elif name in _WITHOUT_EFFECT:
            notes.append(f"{name} has no effect")
        elif name not in ("width", "height"):
            known = ["prompt", "size", "seconds", "variations", "extra", "model", "input_reference", *_SYNONYMS]
            hint = did_you_mean(name, known) or f"known are: {', '.join(known)}"
            raise RequestError(name[:40], "unknown field", hint)
    if fields.get("width") and fields.get("height") and not size:
        settings["size"], size = _size(f"{fields['width']}x{fields['height']}", limits)
    if settings.get("steps", 0) > _MOST_STEPS:
        raise RequestError("num_inference_steps", f"must be at most {_MOST_STEPS}", hint="such as 20")
    resolved = GenerateSettings(**settings).resolve(model)
    _check_length(resolved, limits)
    if prompt and model.latents == "motion":
        notes.append(f"prompt is kept as caption; model {model.name} takes no text")
    return AskedVideo(prompt, settings, resolved, size, variations, tuple(notes))


def _prompt(value: Any) -> str:
    if not isinstance(value, str):
        raise RequestError("prompt", "not a text", hint="send a string")
    if len(value) > _MOST_TEXT:
        raise RequestError("prompt", f"has more than {_MOST_TEXT} characters", hint="shorten it")
    return value


def _converted(name: str, convert: Callable[[Any], Any], value: Any) -> Any:
    try:
        return convert(value)
    except (ValueError, OverflowError) as error:
        raise RequestError(name, f"{str(value)[:40]!r} is {error}", hint="see /docs for its values") from None


def _variations(value: Any) -> int:
    number = _converted("variations", _whole, value)
    if not 1 <= number <= MOST_VARIATIONS:
        raise RequestError("variations", f"must be from 1 to {MOST_VARIATIONS}, not {number}", hint="send several")
    return number


def _object(name: str, value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    if not isinstance(value, dict):
        raise RequestError(name, "not a JSON object", hint='such as {"motion": "sway"}')
    return value


def _size(value: Any, limits: ServerLimits) -> tuple[tuple[int, int], str]:
    """(height, width) of the API's WIDTHxHEIGHT, and that text."""
    match = re.fullmatch(r"([0-9]{2,5})x([0-9]{2,5})", str(value))
    if match is None:
        raise RequestError("size", f"{str(value)[:40]!r} is not WIDTHxHEIGHT", hint="such as 720x1280")
    width, height = int(match[1]), int(match[2])
    if min(width, height) < _SHORTEST_SIDE:
        raise RequestError("size", f"must be at least {_SHORTEST_SIDE} pixels each way", hint="such as 720x1280")
    if width * height > limits.video_pixels:
        raise RequestError(
            "size", f"{width}x{height} has more than {limits.video_pixels:,} pixels", hint="such as 1080x1920"
        )
    return (height, width), f"{width}x{height}"


def _length(seconds: float, fields: Mapping[str, Any], model: ModelConfig) -> dict[str, Any]:
    if not seconds > 0:
        raise RequestError("seconds", f"must be above 0, not {seconds:g}", hint="such as 4")
    if seconds > 3600:
        raise RequestError("seconds", "must be at most 3600", hint="such as 4")
    if model.latents == "motion":
        return {"duration": seconds}
    rate = _converted("fps", _number, fields["fps"]) if fields.get("fps") else model.fps
    return {"frames": max(FRAME_DIVISOR, round(seconds * rate / FRAME_DIVISOR) * FRAME_DIVISOR)}


def _check_length(resolved: ResolvedSettings, limits: ServerLimits) -> None:
    from fashionflow_core.video.formats import MAX_FPS

    if resolved.fps > MAX_FPS:
        raise RequestError("fps", f"must be at most {MAX_FPS}", hint="such as 25")
    if resolved.video_frames / resolved.fps > limits.video_seconds or resolved.video_frames > 60 * limits.video_seconds:
        raise RequestError(
            "seconds",
            f"this server makes videos of at most {limits.video_seconds:g} s and {60 * limits.video_seconds:g} frames",
            hint="ask for a shorter video",
        )
