"""HTTP endpoint in the shape of OpenAI's videos API, with progress, metrics, reviews and the page."""

import asyncio
import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from fashionflow_core.catalogue.reviews import VERDICTS
from fashionflow_core.config import ModelConfig
from fashionflow_core.errors import UsageError
from fashionflow_core.serve.addresses import PhotoFetcher
from fashionflow_core.serve.downloads import download
from fashionflow_core.serve.guard import COOKIE, Guard, Refused, error_json
from fashionflow_core.serve.metrics import ServerMetrics
from fashionflow_core.serve.openapi import BODY, docs_page
from fashionflow_core.serve.settings import ServerOptions
from fashionflow_core.serve.upload import check_size, photo_bytes, read_upload
from fashionflow_core.serve.video_request import RequestError, VideoRequest, read_fields
from fashionflow_core.serve.video_store import (
    BROKEN,
    COMPLETED,
    QUEUED,
    KeyReused,
    QueueFull,
    ServedVideo,
    VideoStore,
    new_id,
)

PAGE = Path(__file__).parent / "page"
_ENDED = (COMPLETED, BROKEN)
_MOST_LISTED = 100
_ALIVE = 15.0  # seconds between two comments in a silent stream, so that proxies keep it open


@dataclass
class Endpoint:
    """What the handlers share.

    Attributes:
        options: of the server.
        store: of the videos.
        model: of the model that is served.
        is_ready: whether a worker can work.
        problem: why none can, or empty.
        fetcher: of photos at addresses.
        stopping: set when the server stops; ends the streams.
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
        """A video as clients see it."""
        request, record = video.request, video.record
        keep = self.options.limits.keep_seconds
        expires = video.ended + keep if video.ended and keep != float("inf") and not request.item else None
        size = f"{record['width']}x{record['height']}" if "width" in record else request.size or "auto"
        return {
            "id": video.id,
            "object": "video",
            "model": self.model.name,
            "status": video.status,
            "progress": video.progress,
            "created_at": int(request.created),
            "completed_at": int(video.ended) if video.status == COMPLETED else None,
            "expires_at": int(expires) if expires else None,
            "size": size,
            "seconds": f"{request.seconds:g}",
            "prompt": request.prompt,
            "remixed_from_video_id": request.again_of or None,
            "error": self._error(video) if video.status == BROKEN else None,
            "stage": video.stage,
            "seed": record.get("seed", request.settings.get("seed")),
            "variation": request.variation,
            "group": request.group,
            "photo_name": request.photo_name,
            "review": video.verdict,
            "scores": record.get("scores"),
            "warnings": [*request.notes, *(self._words(video, line) for line in record.get("warnings") or ())],
            "stage_durations": record.get("seconds") or {},
        }

    def _error(self, video: ServedVideo) -> dict[str, str]:
        record = video.record
        code = "time_limit" if record.get("error_class") == "TimeLimit" else f"{record.get('stage', 'worker')}_error"
        hint = str(record.get("hint") or "")
        message = self._words(video, str(record.get("message") or "failed"))
        return {"code": code, "message": f"{message}; {hint}" if hint else message}

    def _words(self, video: ServedVideo, text: str) -> str:
        """A message without folders of this server: photos by the client's own name."""
        request, place = video.request, str(self.store.folder)
        shown = request.photo_name or "photo"
        if request.photo:
            text = text.replace(f"{place}/photos/{request.photo}", shown).replace(request.photo, shown)
        return text.replace(f"{place}/", "").replace(place, "")

    def find(self, name: str) -> ServedVideo:
        """A video by its id.

        Raises:
            HTTPException: there is none.
        """
        video = self.store.videos.get(name)
        if video is None:
            raise HTTPException(404, "no such video; it may have been deleted, or have expired")
        return video


def build_app(endpoint: Endpoint, metrics: ServerMetrics, log: Callable[[str], None]) -> Guard:
    """The whole endpoint (ASGI)."""
    app = FastAPI(
        title="FashionFlow",
        description="Short showcase videos of garment photos, in the shape of OpenAI's videos API.",
        docs_url=None,
        redoc_url=None,
    )
    _add_errors(app)
    guard = Guard(app, endpoint.options, log, metrics.answered)
    _add_videos(app, endpoint)
    _add_reviews(app, endpoint)
    _add_streams(app, endpoint)
    _add_operation(app, endpoint, metrics)
    _add_page(app, endpoint, guard)
    return guard


def _add_errors(app: FastAPI) -> None:
    def refused(_request: Request, error: Any) -> Response:
        return JSONResponse(error_json(error.code, str(error)), error.status, error.headers)

    def usage(_request: Request, error: Any) -> Response:
        param = getattr(error, "field", None) or error.message.partition(":")[0]
        return JSONResponse(error_json("invalid_value", error.message, param, error.hint), 400)

    def full(_request: Request, error: Any) -> Response:
        content = error_json("queue_full", error.message, None, error.hint)
        return JSONResponse(content, 429, {"retry-after": str(error.seconds)})

    def reused(_request: Request, error: Any) -> Response:
        return JSONResponse(error_json("idempotency_key_reused", error.message, None, error.hint), 409)

    def other(_request: Request, error: Any) -> Response:
        codes = {404: "not_found", 405: "method_not_allowed"}
        content = error_json(codes.get(error.status_code, "invalid_request"), str(error.detail))
        return JSONResponse(content, error.status_code, error.headers)

    def disk(_request: Request, error: Any) -> Response:
        reason = (error.strerror or "").lower() or "the disk"
        return JSONResponse(error_json("storage", f"the video could not be kept ({reason})"), 507)

    def gone(_request: Request, _error: Any) -> Response:
        return Response(status_code=400)

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(UsageError, usage)
    app.add_exception_handler(QueueFull, full)
    app.add_exception_handler(KeyReused, reused)
    app.add_exception_handler(HTTPException, other)
    app.add_exception_handler(OSError, disk)
    app.add_exception_handler(ClientDisconnect, gone)


def _add_videos(app: FastAPI, endpoint: Endpoint) -> None:
    store, options = endpoint.store, endpoint.options

    @app.post("/v1/videos", summary="Make a video of a photo", openapi_extra={"requestBody": BODY})
    async def create(request: Request) -> Response:
        if endpoint.problem():
            raise Refused(503, "unavailable", endpoint.problem(), **{"retry-after": "10"})
        key = request.headers.get("idempotency-key", "")
        if len(key) > 255:
            raise RequestError("Idempotency-Key", "has more than 255 characters", "send a UUID")
        upload = await read_upload(request, options.limits)
        fields = dict(upload.fields)
        _check_model(fields.pop("model", None), endpoint.model)
        asked = read_fields(fields, endpoint.model, options.limits)
        client = str(request.scope.get("fashionflow_client", ""))
        mark = hashlib.sha256(f"{client}\n{key}".encode(errors="surrogateescape")).hexdigest() if key else ""
        digest = upload.digest() if key else ""

        def accept() -> list[ServedVideo]:
            photo = photo_bytes(upload, endpoint.fetcher)
            check_size(photo, options.limits.photo_megapixels)
            ids = [new_id() for _ in range(asked.variations)]
            seed = asked.settings.get("seed", secrets.randbits(31))
            created = store.clock()
            requests = [
                VideoRequest(
                    id=name,
                    created=created + 1e-6 * number,
                    photo="",
                    photo_name=upload.name,
                    prompt=asked.prompt,
                    settings={**asked.settings, "seed": seed},
                    variation=number,
                    group=ids[0],
                    size=asked.size,
                    seconds=asked.seconds,
                    idempotency=mark if number == 0 else "",
                    digest=digest if number == 0 else "",
                    notes=asked.notes,
                )
                for number, name in enumerate(ids)
            ]
            return store.accept(requests, photo)

        videos = await run_in_threadpool(accept)
        first = endpoint.json(videos[0])
        return JSONResponse(first | ({"variations": [video.id for video in videos]} if len(videos) > 1 else {}))

    @app.get("/v1/videos", summary="List videos, newest first")
    async def listed(limit: int = 20, after: str | None = None, order: str = "desc") -> Response:
        if not 1 <= limit <= _MOST_LISTED or order not in ("asc", "desc"):
            raise RequestError("limit, order", f"1 to {_MOST_LISTED}; asc or desc", "such as limit=20")
        videos = list(store.videos.values())
        if order == "desc":
            videos.reverse()
        if after is not None:
            endpoint.find(after)
            videos = videos[1 + next(place for place, video in enumerate(videos) if video.id == after) :]
        shown = [endpoint.json(video) for video in videos[:limit]]
        ends = {"first_id": shown[0]["id"] if shown else None, "last_id": shown[-1]["id"] if shown else None}
        return JSONResponse({"object": "list", "data": shown, **ends, "has_more": len(videos) > limit})

    @app.get("/v1/videos/{video_id}", summary="A video and how far it is")
    async def retrieve(video_id: str) -> Response:
        return JSONResponse(endpoint.json(endpoint.find(video_id)))

    @app.api_route(
        "/v1/videos/{video_id}/content", methods=["GET", "HEAD"], summary="The video file, its poster, or the photo"
    )
    async def content(video_id: str, variant: str = "video") -> Response:
        video = endpoint.find(video_id)
        if variant == "photo":
            found = store.photo(video)
            return _file(*found) if found else _missing("the photo is not there any more")
        if variant not in ("video", "thumbnail"):
            raise RequestError("variant", "not video, thumbnail or photo", "such as variant=thumbnail")
        if video.status != COMPLETED:
            content = error_json("not_ready", f"the video is {video.status}", None, "wait until it is completed")
            return JSONResponse(content, 409 if video.status != BROKEN else 404)
        if variant == "thumbnail":
            path = store.poster(video)
            return _file(path, "image/jpeg") if path else _missing("the poster is not there any more")
        path = store.content(video)
        return _file(path, _video_type(path)) if path else _missing("the video is not there any more")

    @app.delete("/v1/videos/{video_id}", summary="Delete a video; one in the queue is not made")
    async def delete(video_id: str) -> Response:
        video = endpoint.find(video_id)
        if video.request.item:
            raise Refused(409, "not_deletable", "generate made this video; remove it from its folder")
        await run_in_threadpool(store.remove, video_id)
        return JSONResponse({"id": video_id, "object": "video.deleted", "deleted": True})

    @app.get("/v1/models", summary="The model that is served")
    async def models() -> Response:
        one = {"id": endpoint.model.name, "object": "model", "created": 0, "owned_by": "fashionflow"}
        return JSONResponse({"object": "list", "data": [one]})


def _check_model(name: Any, model: ModelConfig) -> None:
    if name not in (None, "", model.name):
        shown = str(name)[:60]
        raise Refused(404, "model_not_found", f"model {shown!r} is not served here; this server has {model.name}")


def _file(path: Path, media: str) -> Response:
    # A photo may be any file that begins as one: a browser is not to take it for a page.
    headers = {"content-security-policy": "default-src 'none'; sandbox", "cache-control": "private, max-age=3600"}
    return FileResponse(path, media_type=media, headers=headers)


def _video_type(path: Path) -> str:
    return {".webm": "video/webm", ".gif": "image/gif", ".webp": "image/webp"}.get(path.suffix, "video/mp4")


def _missing(words: str) -> Response:
    return JSONResponse(error_json("not_found", words), 404)


def _add_reviews(app: FastAPI, endpoint: Endpoint) -> None:
    store = endpoint.store

    @app.post("/v1/videos/{video_id}/review", summary="Approve or reject a video: {verdict: approved | rejected | ''}")
    async def review(video_id: str, request: Request) -> Response:
        endpoint.find(video_id)
        try:
            verdict = json.loads(await request.body())["verdict"]
        except (ValueError, KeyError, TypeError, RecursionError):
            verdict = None
        if verdict not in VERDICTS:
            raise RequestError("verdict", "not approved, rejected or empty", 'such as {"verdict": "approved"}')
        video = await run_in_threadpool(store.review, video_id, verdict)
        if video is None:
            raise Refused(409, "not_ready", "only a finished video can be reviewed")
        return JSONResponse(endpoint.json(video))

    @app.post("/v1/videos/{video_id}/again", summary="Make another video of the same photo, with a new seed")
    async def again(video_id: str) -> Response:
        video = endpoint.find(video_id)
        if endpoint.problem():
            raise Refused(503, "unavailable", endpoint.problem(), **{"retry-after": "10"})

        def accept() -> list[ServedVideo]:
            old, name = video.request, new_id()
            settings = {**old.settings, "seed": secrets.randbits(31)}
            new = VideoRequest(
                id=name,
                created=store.clock(),
                photo=old.photo,
                photo_name=old.photo_name,
                prompt=old.prompt,
                settings=settings,
                group=old.group,
                size="" if old.item else old.size,
                seconds=old.seconds,
                again_of=old.id,
                notes=old.notes,
            )
            found = store.photo(video)
            if found is None:
                raise Refused(409, "no_photo", "the photo is not there any more")
            return store.accept([new], None if old.photo else found[0].read_bytes())

        (made,) = await run_in_threadpool(accept)
        return JSONResponse(endpoint.json(made))

    @app.get("/v1/download", summary="Videos as a zip archive, or their list as CSV")
    async def archive(format: str = "zip", review: str = "all") -> Response:
        if format not in ("zip", "csv") or review not in ("all", "approved", "rejected"):
            raise RequestError("format, review", "zip or csv; all, approved or rejected", "such as format=zip")
        videos = [video for video in store.videos.values() if video.status == COMPLETED]
        videos = [video for video in videos if review in ("all", video.verdict)]
        return download(store, videos, format, endpoint.json)


def _add_streams(app: FastAPI, endpoint: Endpoint) -> None:
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
    """A line per change, the present state first; ends with the video, or with the server."""
    loop, store = asyncio.get_running_loop(), endpoint.store
    changed: set[str] = set()
    gone: set[str] = set()
    news = asyncio.Event()

    def note(name: str, event: str) -> None:
        (gone if event in ("deleted", "expired") else changed).add(name)
        news.set()

    def heard(video: ServedVideo | None, event: str) -> None:
        if video is not None and only in (None, video.id) and not loop.is_closed():
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


def _add_operation(app: FastAPI, endpoint: Endpoint, metrics: ServerMetrics) -> None:
    @app.get("/healthz", summary="Whether the server answers")
    async def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", summary="Whether the model is open and videos can be made")
    async def readyz() -> Response:
        ready = endpoint.is_ready()
        return JSONResponse({"status": "ready" if ready else "not ready"}, 200 if ready else 503)

    @app.get("/metrics", summary="Metrics for Prometheus")
    async def counted() -> Response:
        return PlainTextResponse(metrics.text(endpoint.is_ready()), media_type="text/plain; version=0.0.4")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return Response(docs_page(app.openapi()), media_type="text/html")


def _add_page(app: FastAPI, endpoint: Endpoint, guard: Guard) -> None:
    def page_file(name: str, media: str) -> Callable[[], Response]:
        text = (PAGE / name).read_text(encoding="utf-8")

        def answer() -> Response:
            return Response(text, media_type=media, headers={"cache-control": "no-cache"})

        return answer

    pages: Iterable[tuple[str, str, str]] = (
        ("/", "index.html", "text/html"),
        ("/page.css", "page.css", "text/css"),
        ("/page.js", "page.js", "text/javascript"),
    )
    for path, name, media in pages:
        app.add_api_route(path, page_file(name, media), methods=["GET", "HEAD"], include_in_schema=False)

    @app.get("/session", include_in_schema=False)
    async def session(request: Request) -> Response:
        """What the page has to know before it shows anything."""
        named = not endpoint.options.keys or request.scope["fashionflow_client"].startswith("key-")
        return JSONResponse({"signed_in": named} | (_about(endpoint) if named else {}))

    @app.post("/session", include_in_schema=False)
    async def sign_in(request: Request) -> Response:
        try:
            key = str(json.loads(await request.body())["key"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise RequestError("key", "missing", "type the API key") from None
        name = endpoint.options.keys.name_of(key)
        if name is None:
            if guard.wrong_key(str((request.scope.get("client") or ("",))[0])):
                raise Refused(429, "rate_limit", "too many wrong keys", **{"retry-after": "60"})
            raise Refused(401, "invalid_api_key", "this key is not known")
        answer = JSONResponse({"signed_in": True} | _about(endpoint))
        secure = request.url.scheme == "https"
        answer.set_cookie(
            COOKIE, endpoint.options.keys.session_of(name), httponly=True, samesite="strict", secure=secure
        )
        return answer


def _about(endpoint: Endpoint) -> Mapping[str, Any]:
    model, limits = endpoint.model, endpoint.options.limits
    return {
        "model": model.name,
        "purpose": model.purpose,
        "moves_photos": model.latents == "motion",
        "can_make": bool(endpoint.options.devices),
        "queue": limits.queue,
        "video_seconds": limits.video_seconds,
        "seconds": round(model.frames / model.fps, 2),
        "waiting": sum(video.status == QUEUED for video in endpoint.store.videos.values()),
    }
