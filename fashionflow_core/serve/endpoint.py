"""HTTP endpoint: OpenAI's videos API, progress, metrics, reviews and the page."""

import asyncio
import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from fashionflow_core.catalogue.gallery import FILES, SCORES
from fashionflow_core.config import ModelConfig
from fashionflow_core.errors import UsageError
from fashionflow_core.serve.guard import COOKIE, Guard, Refused, error_json
from fashionflow_core.serve.metrics import ServerMetrics
from fashionflow_core.serve.openapi import BODY, docs_page
from fashionflow_core.serve.review_routes import add_reviews
from fashionflow_core.serve.served import Endpoint
from fashionflow_core.serve.streams import add_streams
from fashionflow_core.serve.upload import check_size, photo_bytes, read_upload
from fashionflow_core.serve.video_request import RequestError, VideoRequest, read_fields
from fashionflow_core.serve.video_store import (
    BROKEN,
    COMPLETED,
    KeyReused,
    QueueFull,
    ServedVideo,
    new_id,
)

_MOST_LISTED = 100
_FETCHES = 8  # photos that are fetched at a time: hosts that do not answer must not hold up other requests


def build_app(endpoint: Endpoint, metrics: ServerMetrics, log: Callable[[str], None]) -> Guard:
    """The complete ASGI application."""
    app = FastAPI(
        title="FashionFlow",
        description="Short showcase videos from garment photos, over OpenAI's videos API.",
        docs_url=None,
        redoc_url=None,
    )
    _add_errors(app)
    guard = Guard(app, endpoint.options, log, metrics.answered)
    _add_videos(app, endpoint)
    add_reviews(app, endpoint)
    add_streams(app, endpoint)
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
        reason = (error.strerror or "").lower() or "disk error"
        return JSONResponse(error_json("storage", f"the video could not be stored ({reason})"), 507)

    def unreadable(_request: Request, error: Any) -> Response:
        first = error.errors()[0]
        param = str(first["loc"][-1])
        return JSONResponse(error_json("invalid_value", f"{param}: {first['msg']}", param), 400)

    def internal(_request: Request, _error: Any) -> Response:  # Starlette raises it again, and the guard logs it
        return JSONResponse(error_json("internal_error", "internal error; see the server's log"), 500)

    def gone(_request: Request, _error: Any) -> Response:
        return Response(status_code=400)

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(UsageError, usage)
    app.add_exception_handler(QueueFull, full)
    app.add_exception_handler(KeyReused, reused)
    app.add_exception_handler(HTTPException, other)
    app.add_exception_handler(OSError, disk)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(RequestValidationError, unreadable)
    app.add_exception_handler(Exception, internal)


def _add_videos(app: FastAPI, endpoint: Endpoint) -> None:
    store, options = endpoint.store, endpoint.options
    fetching = asyncio.Semaphore(_FETCHES)

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

        async with fetching if upload.is_remote else nullcontext():
            photo = await run_in_threadpool(photo_bytes, upload, endpoint.fetcher)

        def accept() -> list[ServedVideo]:
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

    @app.get("/v1/videos/{video_id}", summary="Status and progress of a video")
    async def retrieve(video_id: str) -> Response:
        return JSONResponse(endpoint.json(endpoint.find(video_id)))

    @app.api_route(
        "/v1/videos/{video_id}/content", methods=["GET", "HEAD"], summary="The video file, its poster, or the photo"
    )
    async def content(video_id: str, variant: str = "video") -> Response:
        video = endpoint.find(video_id)
        if variant == "photo":
            found = store.photo(video)
            return _file(*found) if found else _missing("the photo no longer exists")
        if variant not in ("video", "thumbnail"):
            raise RequestError("variant", "not video, thumbnail or photo", "such as variant=thumbnail")
        if video.status != COMPLETED:
            content = error_json("not_ready", f"the video is {video.status}", None, "wait until it is completed")
            return JSONResponse(content, 409 if video.status != BROKEN else 404)
        if variant == "thumbnail":
            path = store.poster(video)
            return _file(path, "image/jpeg") if path else _missing("the poster no longer exists")
        path = store.content(video)
        return _file(path, _video_type(path)) if path else _missing("the video no longer exists")

    @app.delete("/v1/videos/{video_id}", summary="Delete a video; one that is being made stops at its next step")
    async def delete(video_id: str) -> Response:
        video = endpoint.find(video_id)
        if video.request.item:
            raise Refused(409, "not_deletable", "generate made this video; delete it in its folder")
        await run_in_threadpool(store.remove, video_id)
        return JSONResponse({"id": video_id, "object": "video.deleted", "deleted": True})

    @app.get("/v1/models", summary="The model that is served")
    async def models() -> Response:
        one = {"id": endpoint.model.name, "object": "model", "created": 0, "owned_by": "fashionflow"}
        return JSONResponse({"object": "list", "data": [one]})


def _check_model(name: Any, model: ModelConfig) -> None:
    if name not in (None, "", model.name):
        shown = str(name)[:60]
        raise Refused(404, "model_not_found", f"model {shown!r} is not served; this server has {model.name}")


def _file(path: Path, media: str) -> Response:
    # A photo is any file that starts like one: browsers must not render it as a page.
    headers = {"content-security-policy": "default-src 'none'; sandbox", "cache-control": "private, max-age=3600"}
    return FileResponse(path, media_type=media, headers=headers)


def _video_type(path: Path) -> str:
    return {".webm": "video/webm", ".gif": "image/gif", ".webp": "image/webp"}.get(path.suffix, "video/mp4")


def _missing(words: str) -> Response:
    return JSONResponse(error_json("not_found", words), 404)


def _add_operation(app: FastAPI, endpoint: Endpoint, metrics: ServerMetrics) -> None:
    @app.get("/healthz", summary="Liveness")
    async def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", summary="Readiness: the model is open and videos can be made")
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
        text = (FILES / name).read_text(encoding="utf-8")

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
        """Settings that the page needs first."""
        named = not endpoint.options.keys or request.scope["fashionflow_client"].startswith("key-")
        return JSONResponse({"signed_in": named, **(_about(endpoint) if named else {})})

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
            raise Refused(401, "invalid_api_key", "unknown API key")
        answer = JSONResponse({"signed_in": True, **_about(endpoint)})
        # From the browser's Origin: behind a proxy with TLS the scheme here is http.
        secure = request.headers.get("origin", "").startswith("https://")
        answer.set_cookie(
            COOKIE, endpoint.options.keys.session_of(name), httponly=True, samesite="strict", secure=secure
        )
        return answer


def _about(endpoint: Endpoint) -> Mapping[str, Any]:
    model, limits = endpoint.model, endpoint.options.limits
    return {
        "model": model.name,
        "purpose": model.purpose,
        "scores": SCORES,
        "moves_photos": model.latents == "motion",
        "can_make": bool(endpoint.options.devices),
        "queue": limits.queue,
        "video_seconds": limits.video_seconds,
        "seconds": round(model.frames / model.fps, 2),
        "waiting": len(endpoint.store.waiting),
    }
