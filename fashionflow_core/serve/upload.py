"""Uploads: what a POST request carries, as fields and the bytes of one photo."""

import hashlib
import io
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from fashionflow_core.images.formats import describe, sniff
from fashionflow_core.serve.addresses import FIELD, PhotoFetcher
from fashionflow_core.serve.settings import ServerLimits
from fashionflow_core.serve.video_request import RequestError, nested

if TYPE_CHECKING:
    from starlette.requests import Request as HttpRequest

_PHOTO_FIELDS = (FIELD, "image_reference", "reference_url", "photo", "image")
_MOST_FIELDS = 60


@dataclass(frozen=True)
class Upload:
    """What a request carries.

    Attributes:
        fields: all but the photo.
        photo: the file, or the address that it is to be fetched from.
        name: the client's name of the photo, without folders; to be shown, never to be opened.
    """

    fields: Mapping[str, Any]
    photo: bytes | str
    name: str = ""

    def digest(self) -> str:
        """Of everything that is asked: requests with the same one are the same."""
        photo = self.photo if isinstance(self.photo, bytes) else self.photo.encode(errors="surrogateescape")
        fields = json.dumps(self.fields, sort_keys=True, default=str)
        return hashlib.sha256(fields.encode(errors="surrogatepass") + hashlib.sha256(photo).digest()).hexdigest()


async def read_upload(request: "HttpRequest", limits: ServerLimits) -> Upload:
    """Read a form or JSON.

    Raises:
        RequestError: another media type, malformed, or not one photo.
        HTTPException: a form that cannot be parsed.
    """
    from starlette.datastructures import UploadFile

    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    name, photo = "", None
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        async with request.form(max_files=2, max_fields=_MOST_FIELDS, max_part_size=limits.body_bytes) as form:
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
        try:
            fields = json.loads(await request.body())
        except (ValueError, RecursionError):
            raise RequestError("body", "not valid JSON", "see /docs") from None
        if not isinstance(fields, dict) or len(fields) > _MOST_FIELDS:
            raise RequestError("body", "not a JSON object of fields", "see /docs")
    else:
        raise RequestError("content-type", "not multipart/form-data or application/json", "see /docs")
    address = _address(fields)
    if (photo is None) == (address is None):
        raise RequestError(FIELD, "one photo is needed", f"send it as the file {FIELD}")
    if photo is None:
        return Upload(fields, str(address), PurePosixPath(str(address).partition("?")[0]).name[:80])
    return Upload(fields, photo, _shown_name(name))


def _address(fields: dict[str, Any]) -> str | None:
    """The address that a photo is to be fetched from, taken out of the fields."""
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
            raise RequestError(key, "not a photo or an address of one", "send a file, or a data: address")
        found = value
    return found


def _shown_name(name: str) -> str:
    last = re.split(r"[/\\]", name)[-1]
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\ud800-\udfff]", "", last)[:120]


def photo_bytes(upload: Upload, fetcher: PhotoFetcher) -> bytes:
    """The photo's file, fetched if need be, and checked as far as its header tells.

    Raises:
        RequestError: not a photo, or one that the photo door refuses by its size.
    """
    photo = upload.photo if isinstance(upload.photo, bytes) else fetcher.fetch(upload.photo)
    kind = sniff(photo[:4096])
    if kind is None:
        what = describe(photo[:4096]) or ("an empty file" if not photo else "not a photo")
        raise RequestError(FIELD, f"is {what}", "send JPEG, PNG, WebP, AVIF, TIFF, GIF or HEIC")
    return photo


def check_size(photo: bytes, megapixels: float) -> None:
    """Refuse a photo by the size in its header; what the header does not tell is left to the photo process.

    Raises:
        RequestError: too large, too small, or too long.
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
    except Exception:  # damaged: the photo process repairs what can be, and says what is wrong with the rest
        return
    if width * height > megapixels * 1e6:
        raise RequestError(FIELD, f"has more than {megapixels:g} megapixels", "send a smaller photo")
    if min(width, height) < MIN_SIDE or max(width, height) > MAX_ASPECT * min(width, height):
        raise RequestError(FIELD, f"{width}x{height} pixels are too few or too long", "send a photo of a person")
