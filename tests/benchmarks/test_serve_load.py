"""The load test of `fashionflow serve`, in small: its stub is a model that the server can use."""

from pathlib import Path

import pytest

from fashionflow_benchmarks.serve_load import load_test, photo_form


@pytest.mark.slow
def test_a_small_load_test_with_kills_ends_every_video_once(tmp_path: Path) -> None:
    figures = load_test(tmp_path / "served", clients=4, jobs=16, queue=8)
    found = {name: figures[name] for name in ("accepted", "completed", "failed", "lost", "twice")}
    assert found == {"accepted": 16, "completed": 16, "failed": 0, "lost": 0, "twice": 0}
    assert len(figures["memory_mb"]) == 4, "two kills and a stop make four servers"
    assert figures["status_calls"] >= 16 and figures["status_ms"]["p99"] > 0


def test_a_form_has_fields_and_photo() -> None:
    body, kind = photo_form(b"photo", {"size": "256x320"})
    assert kind == "multipart/form-data; boundary=m"
    assert b'name="size"\r\n\r\n256x320\r\n' in body and body.endswith(b"photo\r\n--m--\r\n")
