"""Uploads: fields and photo of a POST request."""

import hashlib
import io
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fashionflow_core.images.formats import describe, sniff
from fashionflow_core.serve.addresses import FIELD, PhotoFetcher
from fashionflow_core.serve.settings import ServerLimits
from fashionflow_core.serve.video_request import RequestError, nested

if TYPE_CHECKING:
    from starlette.requests import Request as HttpRequest

_PHOTO_FIELDS = (FIELD, "image_reference", "reference_url", "photo", "image")
_MOST_FIELDS = 60
_MOST_VALUES = 10_000  # of JSON: 64 MB of empty objects would take gigabytes of memory
_LONGEST_FIELD = 1_000_000  # of an urlencoded form, which takes 60 times as much memory while it is decoded


@dataclass(frozen=True)
class Upload:
    """Content of a request.

    Attributes:
        fields: all but the photo.
        photo: the file, or the URL to fetch it from.
        name: file name of the photo at the client, without folders; displayed, never opened.
    """

    fields: Mapping[str, Any]
    photo: bytes | str
    name: str = ""

    @property
    def is_remote(self) -> bool:
        """Whether the photo has to be fetched from another machine."""
        return isinstance(self.photo, str) and self.photo[:5].lower() != "data:"

    def digest(self) -> str:
        """SHA-256 of all fields and the photo: identical requests have the same digest."""
        photo = self.photo if isinstance(self.photo, bytes) else self.photo.encode()
        fields = json.dumps(self.fields, sort_keys=True, default=str)
        return hashlib.sha256(fields.encode() + hashlib.sha256(photo).digest()).hexdigest()


async def read_upload(request: "HttpRequest", limits: ServerLimits) -> Upload:
    """Read a form or JSON.

    Raises:
        RequestError: unknown media type, malformed body, or not exactly one photo.
        HTTPException: a form that cannot be parsed.
    """
    from starlette.datastructures import UploadFile

    kind, _, more = request.headers.get("content-type", "").partition(";")
    kind = kind.strip().lower()
    charset = re.search(r"charset\s*=\s*[\"']?([^\s;\"']*)", more, re.IGNORECASE)
    if charset is not None and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        # Python has codecs that take minutes for a megabyte, and some whose text is not Unicode.
        raise RequestError("content-type", "charset is not utf-8", "send UTF-8")
    name, photo = "", None
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        longest = limits.body_bytes if kind.startswith("multipart") else _LONGEST_FIELD
        async with request.form(max_files=2, max_fields=_MOST_FIELDS, max_part_size=longest) as form:
            fields: dict[str, Any] = {}
            for key, value in form.multi_items():
                if isinstance(value, UploadFile):
                    if key not in _PHOTO_FIELDS or photo is not None:
                        raise RequestError(key[:40], "one photo is expected", f"send it as {FIELD}")
                    photo, name = await value.read(), value.filename or ""
                elif key in fields:
                    raise RequestError(key[:40], "given twice", "send it once")
                else:
                    fields[key] = value
            fields = nested(fields)
    elif kind == "application/json":
        body = await request.body()
        if sum(map(body.count, (b",", b"[", b"{"))) > _MOST_VALUES:
            raise RequestError("body", f"has more than {_MOST_VALUES:,} values", "see /docs")
        try:
            fields = json.loads(body, object_pairs_hook=_once)
        except (ValueError, RecursionError):
            raise RequestError("body", "not valid JSON", "see /docs") from None
        if not isinstance(fields, dict) or len(fields) > _MOST_FIELDS:
            raise RequestError("body", "not a JSON object of fields", "see /docs")
    else:
        raise RequestError("content-type", "not multipart/form-data or application/json", "see /docs")
    _check_text(fields)
    address = _address(fields)
    if (photo is None) == (address is None):
        raise RequestError(FIELD, "one photo is needed", f"send it as the file {FIELD}")
    if address is not None:
        path = "" if address[:5].lower() == "data:" else address.partition("?")[0]
        return Upload(fields, address, _shown_name(path))
    assert photo is not None
    return Upload(fields, photo, _shown_name(name))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; a name that comes twice is refused: programs differ in which one counts."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RequestError(ascii(twice)[1:-1][:40], "given twice", "send it once")
    return found


def _check_text(value: Any) -> None:
    """Refuse names and texts that no answer could repeat.

    Raises:
        RequestError: one holds half of a surrogate pair, or is nested too deeply.
    """
    try:
        if isinstance(value, str):
            value.encode()
        elif isinstance(value, dict):
            for name, inner in value.items():
                _check_text(name)
                _check_text(inner)
        elif isinstance(value, list):
            for inner in value:
                _check_text(inner)
    except (UnicodeEncodeError, RecursionError):
        raise RequestError("body", "holds text that is not Unicode", "send UTF-8") from None


def _address(fields: dict[str, Any]) -> str | None:
    """The URL of the photo, removed from the fields."""
    found = None
    for key in _PHOTO_FIELDS:
        value = fields.pop(key, None)
        if value is None or value == "":
            continue
        if isinstance(value, str) and value.lstrip().startswith("{"):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                value = None
        if isinstance(value, dict):
            value = value.get("image_url")
        if not isinstance(value, str) or found is not None:
            raise RequestError(key, "not a photo or its URL", "send a file, or a data: URL")
        found = value
    return found


def _shown_name(name: str) -> str:
    last = re.split(r"[/\\]", name)[-1]
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\ud800-\udfff]", "", last)[:120]


def photo_bytes(upload: Upload, fetcher: PhotoFetcher) -> bytes:
    """The photo's file, fetched if necessary; checked by its first bytes.

    Raises:
        RequestError: not a photo, or its URL cannot be fetched.
    """
    photo = upload.photo if isinstance(upload.photo, bytes) else fetcher.fetch(upload.photo)
    kind = sniff(photo[:4096])
    if kind is None:
        what = describe(photo[:4096]) or ("an empty file" if not photo else "not a photo")
        raise RequestError(FIELD, f"is {what}", "send JPEG, PNG, WebP, AVIF, TIFF, GIF or HEIC")
    return photo


def check_size(photo: bytes, megapixels: float) -> None:
    """Check a photo's size by its header; all else is left to the photo process.

    Raises:
        RequestError: too many or too few pixels, or too elongated.
    """
    from PIL import Image

    from fashionflow_core.images.loading import MAX_ASPECT, MIN_SIDE

    kind = sniff(photo[:4096])
    if kind not in ("JPEG", "PNG", "GIF", "WEBP"):
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(photo), formats=[kind]) as image:
                width, height = image.size
    except Image.DecompressionBombError:
        raise RequestError(FIELD, f"has more than {megapixels:g} megapixels", "send a smaller photo") from None
    except Exception:  # damaged: the photo process repairs it, or reports the reason
        return
    if width * height > megapixels * 1e6:
        raise RequestError(FIELD, f"has more than {megapixels:g} megapixels", "send a smaller photo")
    if min(width, height) < MIN_SIDE or max(width, height) > MAX_ASPECT * min(width, height):
        raise RequestError(FIELD, f"{width}x{height} pixels are too few, or too elongated", "send a photo of a person")
