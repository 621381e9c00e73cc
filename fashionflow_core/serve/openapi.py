"""OpenAPI description of requests, and a page of it without scripts."""

from html import escape
from typing import Any

_TEXT, _NUMBER, _WHOLE = {"type": "string"}, {"type": "number"}, {"type": "integer"}


def _field(kind: dict[str, Any], about: str) -> dict[str, Any]:
    return {**kind, "description": about}


_FIELDS = {
    "input_reference": _field({"type": "string", "format": "binary"}, "The photo: a file, or a data: URL."),
    "model": _field(_TEXT, "The served model; may be omitted."),
    "prompt": _field(_TEXT, "Caption."),
    "size": _field(
        _TEXT, "WIDTHxHEIGHT, such as 720x1280, within which the photo's aspect ratio is kept; extra fit=crop fills it."
    ),
    "seconds": _field(_NUMBER, "Length of the video in seconds."),
    "seed": _field(_WHOLE, "The same seed makes the same video. Default: random."),
    "variations": _field(_WHOLE, "1 to 8 videos of the photo."),
    "num_frames": _field(_WHOLE, "Number of frames, instead of seconds."),
    "fps": _field(_NUMBER, "Frames per second."),
    "num_inference_steps": _field(_WHOLE, "Denoising steps."),
    "guidance_scale": _field(_NUMBER, "Classifier-free guidance scale; 1: none."),
    "extra": _field({"type": "object"}, "Other settings, such as motion, motion_amount, loop, fit, interpolate."),
}
BODY = {
    "required": True,
    "content": {
        kind: {"schema": {"type": "object", "required": ["input_reference"], "properties": _FIELDS}}
        for kind in ("multipart/form-data", "application/json")
    },
}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>FashionFlow API</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="stylesheet" href="/page.css"></head>
<body><main class="docs"><h1>FashionFlow API</h1>
<p>{about} Machine-readable: <a href="/openapi.json">openapi.json</a>. With API keys each request carries the header
<code>Authorization: Bearer KEY</code>.</p>
{operations}</main></body></html>
"""


def docs_page(schema: dict[str, Any]) -> str:
    """The OpenAPI document as a page: paths, methods, parameters and fields."""
    parts = []
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            if method == "head":
                continue
            rows = [(entry["name"], entry.get("description", "")) for entry in operation.get("parameters", ())]
            body = operation.get("requestBody", {}).get("content", {}).get("multipart/form-data", {})
            rows += [(name, one["description"]) for name, one in body.get("schema", {}).get("properties", {}).items()]
            table = "".join(f"<dt>{escape(name)}</dt><dd>{escape(about)}</dd>" for name, about in rows)
            parts.append(
                f"<section><h2><code>{method.upper()} {escape(path)}</code></h2>"
                f"<p>{escape(operation.get('summary', ''))}</p>{f'<dl>{table}</dl>' if table else ''}</section>"
            )
    return _PAGE.format(about=escape(schema["info"]["description"]), operations="\n".join(parts))
