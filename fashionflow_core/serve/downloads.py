"""Downloads of several videos: a streamed zip archive, or a CSV table."""

import csv
import io
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from starlette.responses import Response, StreamingResponse

from fashionflow_core.catalogue.results import spreadsheet_text
from fashionflow_core.serve.video_store import ServedVideo, VideoStore

_COLUMNS = ("id", "photo_name", "prompt", "review", "size", "seconds", "seed", "variation", "created_at")
_CHUNK = 1 << 20


class _ZipSink(io.RawIOBase):
    """Buffer that a zip archive writes to and the answer is sent from."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.data += data
        return len(data)

    def take(self) -> bytes:
        data = bytes(self.data)
        self.data.clear()
        return data


def download(
    store: VideoStore, videos: Sequence[ServedVideo], form: str, as_json: Callable[[ServedVideo], dict[str, Any]]
) -> Response:
    """The videos as `zip` (with the table in it) or their table as `csv`."""
    names = _names(store, videos)
    table = _table(videos, names, as_json)
    headers = {"content-disposition": f'attachment; filename="fashionflow.{form}"'}
    if form == "csv":
        return Response(table, media_type="text/csv", headers=headers)
    return StreamingResponse(_zipped(store, videos, names, table), media_type="application/zip", headers=headers)


def _names(store: VideoStore, videos: Sequence[ServedVideo]) -> dict[str, str]:
    """A file name for each video: the photo's, numbered where several photos share it."""
    taken: set[str] = set()
    numbers: Counter[str] = Counter()  # phones call every photo the same: counting from 2 each time is quadratic
    found = {}
    for video in videos:
        stem = re.sub(r"\.[A-Za-z0-9]{1,5}$", "", video.request.photo_name.split("/")[-1])
        stem = re.sub(r"[^\w .-]", "_", stem).strip(" .") or video.id
        path = store.content(video)
        suffix = path.suffix if path else store.suffix
        name = f"{stem}{suffix}"
        while name.casefold() in taken:
            numbers[stem.casefold()] += 1
            name = f"{stem}-{numbers[stem.casefold()] + 1}{suffix}"
        taken.add(name.casefold())
        found[video.id] = name
    return found


def _table(
    videos: Sequence[ServedVideo], names: dict[str, str], as_json: Callable[[ServedVideo], dict[str, Any]]
) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("file", *_COLUMNS))
    for video in videos:
        values = as_json(video)
        cells = (names[video.id], *(values[column] for column in _COLUMNS))
        writer.writerow([spreadsheet_text("" if value is None else str(value)) for value in cells])
    return text.getvalue()


def _zipped(store: VideoStore, videos: Sequence[ServedVideo], names: dict[str, str], table: str) -> Iterator[bytes]:
    sink = _ZipSink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:  # videos are compressed already
        archive.writestr("videos.csv", table)
        for video in videos:
            path = store.content(video)
            try:
                opened = path.open("rb") if path is not None else None
            except FileNotFoundError:  # it has just expired
                opened = None
            if opened is None:
                continue
            with opened as file, archive.open(names[video.id], "w") as entry:
                while chunk := file.read(_CHUNK):
                    entry.write(chunk)
                    yield sink.take()
    yield sink.take()
