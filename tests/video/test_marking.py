"""Generated files say so: in the container of each format, read back by exiftool, without changing the picture."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from command import run
from PIL import Image
from places import ROOT

from fashionflow_core import video
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.video import marking, poster, provenance

FRAMES = [np.full((48, 64, 3), 20 * number, np.uint8) for number in range(8)]
PHOTO = ROOT / "examples" / "dress.jpg"
needs_exiftool = pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")


def _write(path: Path, count: int = 8, mark: bool = True) -> Path:
    video.write(iter(FRAMES[:count]), path, fps=10, count=count, metadata={"note": "ä"}, mark=mark)
    return path


def _exiftool(path: Path) -> dict[str, str]:
    printed = subprocess.run(["exiftool", "-j", "-G1", path], capture_output=True, text=True, check=True).stdout
    return json.loads(printed)[0]


@pytest.mark.parametrize("suffix", video.SUFFIXES)
@pytest.mark.parametrize("count", [8, 1])
def test_marked_videos_hold_the_same_frames_and_metadata(tmp_path: Path, suffix: str, count: int):
    marked, plain = _write(tmp_path / f"marked{suffix}", count), _write(tmp_path / f"plain{suffix}", count, mark=False)
    assert provenance.source_type(marked) == marking.SOURCE_TYPE and provenance.source_type(plain) == ""
    assert np.array_equal(video.read(marked), video.read(plain))
    assert video.read_metadata(marked) == video.read_metadata(plain) == {"note": "ä"}
    assert 0 < marked.stat().st_size - plain.stat().st_size < 1200
    assert marked.read_bytes() == _write(tmp_path / f"again{suffix}", count).read_bytes()


@needs_exiftool
@pytest.mark.parametrize("suffix", video.SUFFIXES)
def test_exiftool_reads_the_mark(tmp_path: Path, suffix: str):
    found = _exiftool(_write(tmp_path / f"v{suffix}"))
    key = "Matroska:Digitalsourcetype" if suffix == ".webm" else "XMP-iptcExt:DigitalSourceType"
    assert found[key] == marking.SOURCE_TYPE
    assert not [name for name in found if name.endswith((":Warning", ":Error"))]


def test_pictures(tmp_path: Path):
    for name in ("poster.png", "poster.jpg"):
        poster.write(tmp_path / name, FRAMES[1])
    with video.FrameFolder(tmp_path / "frames", mark=True) as folder:
        folder.add(FRAMES[1])
    files = [tmp_path / "poster.png", tmp_path / "poster.jpg", tmp_path / "frames" / "frame-0001.png"]
    for file in files:
        assert provenance.source_type(file) == provenance.inspect(file).source_type == marking.SOURCE_TYPE
        assert np.allclose(np.asarray(Image.open(file)), FRAMES[1], atol=3)
        if shutil.which("exiftool"):
            assert _exiftool(file)["XMP-iptcExt:DigitalSourceType"] == marking.SOURCE_TYPE


def test_a_foreign_mark_is_read(tmp_path: Path):
    """As other programs write it: an element, and another type."""
    packet = b"<rdf><Iptc4xmpExt:DigitalSourceType>http://cv.iptc.org/x/digitalCapture</Iptc4xmpExt:DigitalSourceType>"
    Image.fromarray(FRAMES[1]).save(tmp_path / "photo.jpg", xmp=packet)
    assert provenance.source_type(tmp_path / "photo.jpg") == "http://cv.iptc.org/x/digitalCapture"


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\0\x08ftyp" + b"\xff" * 40, b"\0\0\0\x18ftypisom" + bytes(30), b"GIF89a"]
)
def test_damaged_files_have_no_mark(tmp_path: Path, content: bytes):
    (tmp_path / "x.mp4").write_bytes(content)
    assert provenance.source_type(tmp_path / "x.mp4") == ""


def test_inspect_of_other_files(tmp_path: Path):
    video.write(iter(FRAMES), tmp_path / "foreign.mp4", fps=10, count=8, metadata={"artist": "shop"}, mark=False)
    found = provenance.inspect(tmp_path / "foreign.mp4")
    assert (found.source_type, found.settings, found.again) == ("", {}, "")
    assert (found.other, found.frames, found.fps) == ({"artist": "shop"}, 8, 10.0)
    (tmp_path / "text.mp4").write_text("no video")
    for name in ("missing.mp4", "text.mp4"):
        with pytest.raises(FashionFlowError, match=name):
            provenance.inspect(tmp_path / name)


def test_marks_can_be_left_out(tmp_path: Path):
    shutil.copy(PHOTO, tmp_path / "dress.jpg")
    options = ("--size", "160x128", "--frames", "2", "--steps", "1", "--poster", "--no-mark")
    assert run("generate", "dress.jpg", "-o", "v.mp4", *options, cwd=tmp_path).returncode == 0
    assert [provenance.source_type(tmp_path / name) for name in ("v.mp4", "v-poster.png")] == ["", ""]
