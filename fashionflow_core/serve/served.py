"""Shared state of the endpoint's handlers, and the JSON of a video."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from starlette.exceptions import HTTPException

from fashionflow_core.catalogue.gallery import photo_box
from fashionflow_core.config import ModelConfig
from fashionflow_core.serve.addresses import PhotoFetcher
from fashionflow_core.serve.settings import ServerOptions
from fashionflow_core.serve.video_store import BROKEN, COMPLETED, ServedVideo, VideoStore


@dataclass
class Endpoint:
    """Shared state of the handlers.

    Attributes:
        options: settings of the server.
        store: the videos.
        model: settings of the served model.
        is_ready: returns whether a worker can work.
        problem: returns the reason why no worker can, or an empty text.
        fetcher: fetches photos at URLs.
        stopping: set when the server stops; ends the streams.
        streams: number of open streams.
    """

    options: ServerOptions
    store: VideoStore
    model: ModelConfig
    is_ready: Callable[[], bool]
    problem: Callable[[], str]
    fetcher: PhotoFetcher
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    streams: int = 0

    def json(self, video: ServedVideo) -> dict[str, Any]:
        """The JSON of a video."""
        request, record = video.request, video.record
        keep = self.options.limits.keep_seconds
        expires = video.ended + keep if video.ended and keep != float("inf") and not request.item else None
        suffix = PurePath(str(record.get("output", ""))).suffix or self.store.suffix
        size = f"{record['width']}x{record['height']}" if "width" in record else request.size or "auto"
        smaller = []
        if request.size and "width" in record and size != request.size:
            smaller = [f"size: {size} has the photo's aspect ratio; extra fit=crop makes {request.size}"]
        return {
            "id": video.id,
            "object": "video",
            "model": record.get("model") or self.model.name,
            "status": video.status,
            "progress": video.progress,
            "created_at": int(request.created),
            "created": request.created,
            "completed_at": int(video.ended) if video.status == COMPLETED else None,
            "expires_at": int(expires) if expires else None,
            "size": size,
            "seconds": f"{request.seconds:g}",
            "prompt": _unicode(request.prompt),
            "remixed_from_video_id": request.again_of or None,
            "error": self._error(video) if video.status == BROKEN else None,
            "stage": video.stage,
            "version": video.version,
            "seed": record.get("seed", request.settings.get("seed")),
            "variation": request.variation,
            "group": request.group,
            "photo_name": _unicode(request.photo_name),
            "review": video.verdict,
            "scores": record.get("scores"),
            "flags": list(record.get("flags") or ()),
            "to_check": bool(record.get("warnings")),
            "suffix": suffix,
            "photo_box": photo_box(record.get("photo_box")),
            "is_picture": suffix in (".gif", ".webp"),
            "warnings": [
                *request.notes,
                *smaller,
                *(self._words(video, line) for line in record.get("warnings") or ()),
            ],
            "stage_durations": record.get("seconds") or {},
        }

    def _error(self, video: ServedVideo) -> dict[str, str]:
        record = video.record
        code = "time_limit" if record.get("error_class") == "TimeLimit" else f"{record.get('stage', 'worker')}_error"
        hint = str(record.get("hint") or "")
        message = self._words(video, str(record.get("message") or "failed"))
        return {"code": code, "message": f"{message}; {hint}" if hint else message}

    def _words(self, video: ServedVideo, text: str) -> str:
        """A message without paths of this server, with the client's file name of the photo."""
        request, place = video.request, str(self.store.folder)
        shown = request.photo_name or "photo"
        if request.photo:
            text = text.replace(f"{place}/photos/{request.photo}", shown).replace(request.photo, shown)
        return _unicode(text.replace(f"{place}/", "").replace(place, ""))

    def find(self, name: str) -> ServedVideo:
        """A video by its id.

        Raises:
            HTTPException: 404.
        """
        video = self.store.videos.get(name)
        if video is None:
            raise HTTPException(404, "no such video; it may have been deleted, or have expired")
        return video


def _unicode(text: str) -> str:
    """Text without surrogates, which UTF-8 cannot encode: file names of a catalogue may be any bytes."""
    return text.encode(errors="replace").decode()
