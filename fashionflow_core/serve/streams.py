"""Progress as server-sent events, of one or all videos."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress

from fastapi import FastAPI
from fastapi.responses import Response, StreamingResponse

from fashionflow_core.serve.guard import Refused
from fashionflow_core.serve.served import Endpoint
from fashionflow_core.serve.video_store import BROKEN, COMPLETED, ServedVideo

_ENDED = (COMPLETED, BROKEN)
_ALIVE = 15.0  # seconds between two comments in a silent stream, so that proxies keep it open


def add_streams(app: FastAPI, endpoint: Endpoint) -> None:
    """Add the routes."""

    @app.get("/v1/videos/{video_id}/events", summary="Progress of a video as server-sent events")
    async def of_one(video_id: str) -> Response:
        endpoint.find(video_id)
        return _stream(endpoint, video_id)

    @app.get("/v1/events", summary="Changes of all videos as server-sent events")
    async def of_all() -> Response:
        return _stream(endpoint, None)


def _stream(endpoint: Endpoint, only: str | None) -> Response:
    if endpoint.streams >= endpoint.options.limits.streams:
        raise Refused(503, "too_many_streams", "too many streams are open", **{"retry-after": "5"})
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(_events(endpoint, only), media_type="text/event-stream", headers=headers)


async def _events(endpoint: Endpoint, only: str | None) -> AsyncIterator[str]:
    """One event per change, the current state first; ends with the video or the server."""
    loop, store = asyncio.get_running_loop(), endpoint.store
    changed: set[str] = set()
    gone: set[str] = set()
    news = asyncio.Event()

    def note(name: str, event: str) -> None:
        (gone if event in ("deleted", "expired") else changed).add(name)
        news.set()

    def heard(video: ServedVideo | None, event: str) -> None:
        if video is not None and only in (None, video.id):
            with suppress(RuntimeError):  # the server has stopped
                loop.call_soon_threadsafe(note, video.id, event)

    endpoint.streams += 1
    stop_listening = store.listen(heard)
    stopping = asyncio.ensure_future(endpoint.stopping.wait())
    try:
        if only is not None:
            changed.add(only)
        yield ": connected\n\n"
        while True:
            names, changed, removed, gone = changed, set(), gone, set()
            news.clear()
            for name in names:
                video = store.videos.get(name)
                if video is not None:
                    yield f"event: video\ndata: {json.dumps(endpoint.json(video))}\n\n"
                    if only is not None and video.status in _ENDED:
                        return
            for name in removed:
                yield f"event: deleted\ndata: {json.dumps({'id': name})}\n\n"
                if only is not None:
                    return
            waiting = asyncio.ensure_future(news.wait())
            done, _ = await asyncio.wait((waiting, stopping), timeout=_ALIVE, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if stopping in done:
                return
            if not done:
                yield ": alive\n\n"
    finally:
        stopping.cancel()
        stop_listening()
        endpoint.streams -= 1
