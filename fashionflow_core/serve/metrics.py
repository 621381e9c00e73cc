"""Metrics of a server in Prometheus' text format."""

import threading
from collections import Counter

from fashionflow_core.serve.video_store import COMPLETED, IN_PROGRESS, ServedVideo, VideoStore

_HELP = {
    "videos_total": ("counter", "Videos by event: accepted, completed, failed, deleted, expired."),
    "failures_total": ("counter", "Failed videos by stage."),
    "stage_seconds_total": ("counter", "Seconds spent on completed videos, by stage."),
    "requests_total": ("counter", "Answered HTTP requests by status."),
    "queue_length": ("gauge", "Queued videos."),
    "queue_limit": ("gauge", "Limit of queued videos."),
    "in_progress": ("gauge", "Videos in computation."),
    "stored": ("gauge", "Stored videos, with any status."),
    "ready": ("gauge", "1 if a worker has its model open and can work."),
}


class ServerMetrics:
    """Counters of videos and requests."""

    def __init__(self, store: VideoStore) -> None:
        self._store, self._lock = store, threading.Lock()
        self._counts: Counter[tuple[str, str, str]] = Counter()
        store.listen(self._note)

    def answered(self, status: int) -> None:
        """Count an HTTP request."""
        self._add("requests_total", "status", str(status))

    def _add(self, name: str, label: str, value: str, by: float = 1) -> None:
        with self._lock:
            self._counts[name, label, value] += by  # type: ignore[assignment]  # seconds are floats

    def _note(self, video: ServedVideo | None, event: str) -> None:
        if event in ("accepted", "deleted", "expired"):
            self._add("videos_total", "state", event)
        elif event == "ended" and video is not None:
            self._add("videos_total", "state", video.status)
            if video.status != COMPLETED:
                self._add("failures_total", "stage", str(video.record.get("stage", "unknown")))
            for stage, seconds in (video.record.get("seconds") or {}).items():
                self._add("stage_seconds_total", "stage", str(stage), float(seconds or 0))

    def text(self, ready: bool) -> str:
        """All metrics; https://prometheus.io/docs/instrumenting/exposition_formats/"""
        videos = tuple(self._store.videos.values())
        gauges = {
            "queue_length": len(self._store.waiting),
            "queue_limit": self._store.limits.queue,
            "in_progress": sum(video.status == IN_PROGRESS for video in videos),
            "stored": len(videos),
            "ready": int(ready),
        }
        with self._lock:
            counts = dict(self._counts)
        lines = []
        for name, (kind, about) in _HELP.items():
            full = f"fashionflow_{name}"
            lines += [f"# HELP {full} {about}", f"# TYPE {full} {kind}"]
            if name in gauges:
                lines.append(f"{full} {gauges[name]}")
            for (counted, label, value), number in sorted(counts.items()):
                if counted == name:
                    lines.append(f'{full}{{{label}="{_escaped(value)}"}} {number:.10g}')
        return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
