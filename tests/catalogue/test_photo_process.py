"""The photo process of a worker: a photo is blamed only for what it did."""

import hashlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from catalogues import conventions, photo

from fashionflow_core.catalogue.jobs import Job, RunSpec
from fashionflow_core.catalogue.photo_process import Helper, PhotoRequest, Photos, open_photo
from fashionflow_core.config import GenerateSettings, ModelConfig
from fashionflow_core.images import loading
from fashionflow_core.images.fitting import Frame


@pytest.fixture
def photos(tmp_path: Path) -> Any:
    model = conventions(tmp_path / "model")
    made = Photos(RunSpec(str(model), str(tmp_path / "out"), ""), ModelConfig.load(model), None)
    yield made
    made.close()


def request(path: Path, model: Path) -> PhotoRequest:
    config = ModelConfig.load(conventions(model))
    return PhotoRequest(str(path), Frame.of(config, GenerateSettings().resolve(config)), (0, 0, 0), 50.0)


def job(path: Path) -> Job:
    return Job(0, "a", str(path), GenerateSettings(), 0, "", "")


class Dying(Helper):
    """A process that is ended from outside while it opens a photo, so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def ask(self, kind: str, *arguments: Any, **options: Any) -> Any:
        if self.times:
            self.times -= 1
            raise EOFError
        return super().ask(kind, *arguments, **options)


@pytest.mark.parametrize("times, opened", [(1, True), (2, False)])
def test_a_killed_process_is_tried_again(photos: Photos, tmp_path: Path, times: int, opened: bool) -> None:
    photos.helper = Dying(times)
    found = photos.open(job(photo(tmp_path / "a.jpg")))
    assert (found.fitted is not None) == opened
    assert opened or "crashed the process" in str(found.error)


def test_a_process_killed_for_real_is_tried_again(photos: Photos, tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg")
    assert photos.open(job(path)).fitted is not None
    child = photos.helper.child
    assert child is not None
    os.kill(child.process.pid, signal.SIGKILL)
    child.process.wait()
    assert photos.open(job(path)).fitted is not None


def test_a_photo_has_limited_time(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg")
    asked = request(path, tmp_path / "model")
    helper = Helper()
    try:
        with pytest.raises(TimeoutError):
            helper.ask("photo", asked, seconds=0.0)
        assert helper.ask("photo", asked).fitted is not None  # by another process
    finally:
        helper.close()


def test_the_hash_is_of_the_decoded_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another file takes the photo's name while it is opened."""
    path, other = photo(tmp_path / "a.jpg"), photo(tmp_path / "b.jpg", 1)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    assert hashlib.sha256(other.read_bytes()).hexdigest() != before
    decode = loading.to_srgb

    def replaced(*arguments: Any) -> Any:
        if other.exists():
            other.replace(path)
        return decode(*arguments)

    monkeypatch.setattr(loading, "to_srgb", replaced)
    assert open_photo(request(path, tmp_path / "model")).sha256 == before


def test_a_photo_that_changes_under_the_decoder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = photo(tmp_path / "a.jpg")
    update = hashlib.sha256()

    class Changing:
        def update(self, data: bytes, /) -> None:
            update.update(data)
            with path.open("ab") as file:
                file.write(b"more")

    with pytest.raises(Exception, match="changed while it was read"):
        loading.load_photo(path, digest=Changing())
