"""What is no photo is refused in one line, before pixels are decoded, whatever way it comes in."""

import io
import os
import re
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from photos import CASES, Case, blocks, encoded, flipped, huge, worn
from PIL import Image

from fashionflow_core.errors import FashionFlowError, FashionFlowWarning
from fashionflow_core.images import containers, loading
from fashionflow_core.images.loading import load_photo
from fashionflow_core.utils import extras

BAD = {name: case for name, case in CASES.items() if case.fails}
MEMORY = """
import re, sys, warnings
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.images.loading import load_photo

def peak():
    # Not getrusage: what that reports begins with the parent's memory.
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])

warnings.simplefilter("ignore")
load_photo(sys.argv[1])
before = peak()
for path in sys.argv[2:]:
    try:
        load_photo(path)
    except FashionFlowError:
        pass
    else:
        raise SystemExit(f"{path} was not refused")
print(peak() - before)
"""


def refused(source: str | Path, **options: Any) -> str:
    with pytest.raises(FashionFlowError) as caught:
        load_photo(source, **options)
    message = caught.value.message
    assert "\n" not in message and len(message) < len(str(source)) + 250
    assert caught.value.hint and "\n" not in caught.value.hint
    return message


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_refused_in_one_line(tmp_path: Path, case: Case, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"photo{case.suffix}"
    path.write_bytes(case.make())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        message = refused(path)
    assert message.startswith(f"{path}: ")
    assert re.search(case.fails or "", message), message
    assert tuple(capfd.readouterr()) == ("", "")
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_refusing_takes_little_memory(tmp_path: Path) -> None:
    """All bad photos one after the other, in a process that has read a good one: under 100 MB more."""
    good = tmp_path / "good.jpg"
    good.write_bytes(encoded(worn(), "JPEG"))
    paths = []
    for number, case in enumerate(BAD.values()):
        paths.append(tmp_path / f"{number}{case.suffix}")
        paths[-1].write_bytes(case.make())
    sparse = tmp_path / "sparse.webp"  # a decoder that reads the whole file would read a gigabyte
    with sparse.open("wb") as file:
        file.write(encoded(worn(), "WEBP"))
        file.truncate(1_000_000_000)
    command = [sys.executable, "-c", MEMORY, str(good), *map(str, [*paths, sparse])]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert int(result.stdout) * 1024 < 100_000_000


def test_the_limit_can_be_moved(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(worn(), "JPEG"))
    assert "512x640 pixels, above 0.3 megapixels" in refused(path, max_megapixels=0.3)
    assert load_photo(path, max_megapixels=0.33).shape == (640, 512, 3)
    path.write_bytes(huge("PNG"))
    # Beyond Pillow's own limit too: the file is then found to hold nothing.
    assert "damaged or cut off" in refused(path, max_megapixels=1000)
    for limit in (0, -1, float("nan")):
        with pytest.raises(FashionFlowError, match="max megapixels: must be above 0"):
            load_photo(path, max_megapixels=limit)


def test_backgrounds_that_are_no_colours(tmp_path: Path) -> None:
    for background in ((0, 0, 256), (-1, 0, 0), (0, 0)):
        with pytest.raises(FashionFlowError, match="background: must be three numbers"):
            load_photo(tmp_path, background=background)  # pyright: ignore[reportArgumentType]


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "missing.jpg")
    assert "is a folder" in refused(tmp_path)
    (tmp_path / "a.jpg").write_bytes(encoded(blocks(), "JPEG"))
    assert "no such file" in refused(tmp_path / "a.jpg" / "b.jpg")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "cannot be opened" in refused(tmp_path / "loop")
    assert "cannot be opened" in refused("null\0byte.jpg")
    assert "cannot be opened" in refused(tmp_path / ("a" * 300 + ".jpg"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in its file system")
def test_pipes_and_devices_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "pipe or device" in refused(tmp_path / "pipe.jpg")
    assert "pipe or device" in refused(os.devnull)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel lets root read everything: what it says to others stands in for it."""

    def closed(*_arguments: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(blocks(), "JPEG"))
    monkeypatch.setattr("builtins.open", closed)
    assert "permission denied" in refused(path)


def test_raw_previews_are_not_taken_for_photos(tmp_path: Path) -> None:
    path = tmp_path / "photo.nef"
    path.write_bytes(encoded(blocks(), "TIFF", tiffinfo={254: 1}))
    assert "camera raw" in refused(path)


def test_float_samples_of_unknown_range(tmp_path: Path) -> None:
    path = tmp_path / "photo.tif"
    for values in (np.full((40, 40), 3e5, np.float32), np.full((40, 40), -1, np.float32)):
        values[0, 0] = 0
        path.write_bytes(encoded(values, "TIFF"))
        assert "32-bit samples" in refused(path)
    values = np.full((40, 40), np.nan, np.float32)
    path.write_bytes(encoded(values, "TIFF"))
    assert "32-bit samples" in refused(path)


def test_a_jpeg_of_endless_scans(tmp_path: Path) -> None:
    data = encoded(worn(), "JPEG", progressive=True)
    start = data.index(b"\xff\xda")
    scan = data[start : data.index(b"\xff\xda", start + 2)]
    path = tmp_path / "photo.jpg"
    path.write_bytes(data[:start] + scan * (containers.MAX_JPEG_SCANS + 1) + data[start:])
    assert "scans" in refused(path)


def test_heic_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photo.heic"
    path.write_bytes(encoded(worn(), "HEIF"))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(FashionFlowError, match="HEIC photos need the extra 'heif'") as caught:
        load_photo(path)
    assert extras.install("heif") in str(caught.value.hint)


# Standard input


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.mark.parametrize("name", ["jpeg", "png", "tiff lzw", "avif", "heic", "webp", "gif"])
def test_standard_input_is_a_photo_like_any_other(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = CASES[name].make()
    path = tmp_path / "photo"
    path.write_bytes(data)
    stdin(monkeypatch, data)
    assert (load_photo("-") == load_photo(path)).all()


def test_bad_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("empty", "text", "truncated jpeg", "bits flipped in png", "huge webp", "psd"):
        stdin(monkeypatch, CASES[name].make())
        assert refused(Path("-")).startswith("<stdin>: ")
    monkeypatch.setattr(sys, "stdin", None)
    assert "no photo on stdin" in refused("-")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(), isatty=lambda: True))
    assert "no photo on stdin" in refused("-")


def test_standard_input_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, encoded(worn(), "JPEG") + bytes(3_000_000))
    monkeypatch.setattr(loading, "MAX_BYTES", 2_000_000)
    assert "above 2 MB" in refused("-")


# The rest of the process


def test_reading_photos_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    """Pillow's limit, file descriptors, stderr and warning filters, also from several threads at once."""
    path, bad = tmp_path / "photo.jpg", tmp_path / "bad.tif"
    path.write_bytes(encoded(worn(), "JPEG"))
    bad.write_bytes(flipped(encoded(worn(), "TIFF", compression="tiff_lzw"), 0.4))
    load_photo(path)
    state = Image.MAX_IMAGE_PIXELS, len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    filters = list(warnings.filters)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(10):
                assert load_photo(path).shape == (640, 512, 3)
                refused(bad)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert state == (
        Image.MAX_IMAGE_PIXELS,
        len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0,
    )
    assert filters == list(warnings.filters)


def test_warnings_point_at_the_caller(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(CASES["corrupt icc"].make())
    with pytest.warns(FashionFlowWarning) as caught:
        load_photo(path)
    assert caught[0].filename == __file__
