"""Review routes: approve, reject, again, download."""

import json
import secrets

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from fashionflow_core.catalogue.reviews import VERDICTS
from fashionflow_core.serve.downloads import download
from fashionflow_core.serve.guard import Refused
from fashionflow_core.serve.served import Endpoint
from fashionflow_core.serve.video_request import RequestError, VideoRequest
from fashionflow_core.serve.video_store import COMPLETED, ServedVideo, new_id


def add_reviews(app: FastAPI, endpoint: Endpoint) -> None:
    """Add the routes."""
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
                raise Refused(409, "no_photo", "the photo no longer exists")
            return store.accept([new], None if old.photo else found[0].read_bytes())

        (made,) = await run_in_threadpool(accept)
        return JSONResponse(endpoint.json(made))

    @app.get("/v1/download", summary="Videos as a zip archive, or their list as CSV")
    async def archive(format: str = "zip", review: str = "all") -> Response:
        if format not in ("zip", "csv") or review not in ("all", "approved", "rejected"):
            raise RequestError("format, review", "zip or csv; all, approved or rejected", "such as format=zip")
        videos = [video for video in tuple(store.videos.values()) if video.status == COMPLETED]
        videos = [video for video in videos if review in ("all", video.verdict)]
        return await run_in_threadpool(download, store, videos, format, endpoint.json)
