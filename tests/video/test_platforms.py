"""Limits of shops and platforms: files that keep them pass, and each broken limit is named."""

import json
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from command import assert_refused, run
from PIL import Image, ImageOps
from places import ROOT

from fashionflow_core import video
from fashionflow_core.config import EncodeOptions
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.video import boxes, platforms, reading

DOCS = ROOT / "docs" / "guides" / "targets.md"


def _write(path: Path, seconds: float, fps: float, size: tuple[int, int], codec: str | None = None) -> Path:
    count = round(seconds * fps)
    frames = (np.full((*size, 3), number % 200, np.uint8) for number in range(count))
    video.write(frames, path, fps=fps, count=count, options=EncodeOptions(codec=codec))
    return path


def _encode(path: Path, codec: dict[str, str], form: str = "yuv420p", muxer: dict[str, str] | None = None) -> Path:
    """64x48 pixels straight from FFmpeg, as other programs write them."""
    size = (64, 48)
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream("libx264", rate=25, options=codec)
        stream.height, stream.width, stream.pix_fmt = *size, form
        rng = np.random.default_rng(0)
        for _ in range(80):
            picture = av.VideoFrame.from_ndarray(rng.integers(0, 255, (*size, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def _whats(path: Path, name: str) -> set[str]:
    return {problem.what for problem in platforms.check(path, platforms.find_platform(name))}


@pytest.mark.parametrize(
    ("name", "suffix", "seconds", "fps", "size"),
    [
        ("shopify", ".mp4", 1, 10, (64, 48)),
        ("shopify", ".webm", 1, 10, (64, 48)),
        ("shopify", ".gif", 1, 10, (64, 48)),
        ("google", ".mp4", 6, 5, (64, 48)),
        ("tiktok", ".mp4", 3, 25, (362, 364)),
        ("web", ".webp", 1, 10, (64, 48)),
        ("gif", ".gif", 1, 10, (64, 48)),
    ],
)
def test_files_that_keep_the_limits(
    tmp_path: Path, name: str, suffix: str, seconds: float, fps: float, size: tuple[int, int]
):
    assert not _whats(_write(tmp_path / f"v{suffix}", seconds, fps, size), name)


@pytest.mark.parametrize(
    ("name", "suffix", "seconds", "fps", "size", "whats"),
    [
        ("google", ".webm", 1, 10, (64, 48), {"container", "seconds"}),
        ("amazon", ".mp4", 1, 60, (64, 48), {"seconds", "frames per second", "width:height", "size"}),
        ("reels", ".mp4", 1, 10, (64, 1922), {"seconds", "frames per second", "width", "edit list"}),
        ("tiktok", ".mp4", 1, 10, (64, 4100), {"seconds", "frames per second", "size"}),
        ("tiktok", ".gif", 4, 10, (362, 364), {"container", "codec"}),
        ("gif", ".mp4", 1, 10, (64, 48), {"container"}),
    ],
)
def test_each_broken_limit_is_named(
    tmp_path: Path, name: str, suffix: str, seconds: float, fps: float, size: tuple[int, int], whats: set[str]
):
    assert _whats(_write(tmp_path / f"v{suffix}", seconds, fps, size), name) == whats


def test_structure_of_foreign_files(tmp_path: Path):
    late = _encode(tmp_path / "late.mp4", {"bf": "2"})
    assert {"index (moov)", "edit list"} <= _whats(late, "reels") and _whats(late, "web") == {"index (moov)"}
    first = _encode(
        tmp_path / "first.mp4", {}, muxer={"movflags": "faststart+negative_cts_offsets", "use_editlist": "0"}
    )
    assert not _whats(first, "reels")
    assert "pixel format" in _whats(_encode(tmp_path / "full.mp4", {}, form="yuv444p"), "web")
    mov = _encode(tmp_path / "v.mov", {}, muxer={"movflags": "faststart"})
    assert _whats(mov, "reels") == {"edit list"}


def test_open_groups_of_pictures(tmp_path: Path):
    several = {"g": "20", "bf": "2", "sc_threshold": "0"}
    assert not reading.has_open_groups(_encode(tmp_path / "closed.mp4", several))
    assert reading.has_open_groups(_encode(tmp_path / "open.mp4", several | {"x264-params": "open-gop=1"}))
    assert not reading.has_open_groups(_encode(tmp_path / "closed.ts", several))
    assert reading.has_open_groups(_encode(tmp_path / "open.ts", several | {"x264-params": "open-gop=1"}))
    assert not reading.has_open_groups(_write(tmp_path / "ours.mp4", 3, 25, (64, 48), codec="hevc"))


def test_boxes_of_damaged_files_end(tmp_path: Path):
    whole = _write(tmp_path / "v.mp4", 1, 10, (64, 48)).read_bytes()
    kinds = boxes.kinds(tmp_path / "v.mp4")
    assert kinds[0] == b"ftyp" and {b"moov", b"mdat", b"uuid"} <= set(kinds)
    rng = np.random.default_rng(1)
    for number in range(300):
        damaged = bytearray(whole[: rng.integers(1, len(whole))])
        for at in rng.integers(0, len(damaged), 6):
            damaged[at] = rng.integers(0, 256)
        (tmp_path / "x.mp4").write_bytes(damaged)
        assert len(boxes.kinds(tmp_path / "x.mp4")) < 1000, number


def test_the_command(tmp_path: Path):
    _write(tmp_path / "short.mp4", 1, 25, (64, 48))
    (tmp_path / "no.mp4").write_text("text")
    done = run("check", "short.mp4", "--for", "shopify, gif", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stdout.splitlines() == [
        "short.mp4: shopify: keeps all 5 limits",
        "short.mp4: gif: container: mp4, not gif",
    ]
    found = json.loads(run("check", "short.mp4", "no.mp4", "--for", "web", "--json", cwd=tmp_path).stdout)
    assert [len(one["problems"]) for one in found] == [0, 1] and found[1]["problems"][0]["what"] == "file"
    assert run("check", "short.mp4", "--for", "web", cwd=tmp_path).returncode == 0
    unknown = run("check", "short.mp4", "--for", "myspace", cwd=tmp_path)
    assert_refused(unknown, 2, "--for", "unknown target 'myspace'")
    assert "shopify" in unknown.stderr
    assert_refused(run("check", "short.mp4", "--for", " , ", cwd=tmp_path), 2, "--for", "no target")
    assert run("check", "short.mp4", "--for", "Web,", cwd=tmp_path).returncode == 0
    assert "no.mp4" in run("check", "no.mp4", "--for", "web", cwd=tmp_path).stderr


@pytest.mark.parametrize("command", [("inspect",), ("check", "--for", "web")])
def test_hostile_files_are_one_line(tmp_path: Path, command: tuple[str, ...]):
    """Boxes inside one another without end, a picture of 3.6 gigapixels, a box beyond the end, a still."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    kind = struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0)
    nested = b"".join(struct.pack(">I4s", 8 * (3000 - number), b"moov") for number in range(3000))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    damaged = {
        "deep.mp4": kind + nested,
        "huge.png": b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b""),
        "far.mp4": struct.pack(">I4sQ", 1, b"ftyp", 1 << 62) + b"isom" * 8,
        "empty.mp4": b"",
        "cut.gif": b"GIF89a\x01",
    }
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
        done = run(command[0], name, *command[1:], cwd=tmp_path)
        assert_refused(done, 1, name)
        assert "internal" not in done.stderr
    Image.new("RGB", (40, 30)).save(tmp_path / "still.tif")
    done = run(command[0], "still.tif", *command[1:], cwd=tmp_path)
    assert done.returncode == (0 if command[0] == "inspect" else 3), done.stderr


def test_stills_are_read_upright(tmp_path: Path):
    """FFmpeg attaches EXIF data, of a kind that PyAV cannot name, to frames of JPEG."""
    picture, exif = Image.linear_gradient("L").resize((48, 64)).convert("RGB"), Image.Exif()
    for turn in (1, 3, 6, 8):
        exif[0x112] = turn
        picture.save(tmp_path / "x.jpg", exif=exif)
        shown = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "x.jpg")))
        read = reading.read(tmp_path / "x.jpg")[0]
        assert read.shape == shown.shape and np.abs(read.astype(int) - shown).max() <= 6, turn


def test_rows_name_their_source_and_the_docs_have_them():
    _, _, page = DOCS.read_text(encoding="utf-8").partition("## Limits\n")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(platforms.PLATFORMS)
    for target, row in zip(platforms.PLATFORMS.values(), rows):
        assert target.source and all(container in row for container in target.containers)
        for limits in (target.seconds, target.fps, target.sides):
            assert limits is None or f"{limits[1]:g}" in row
        assert target.name == "web" or all(codec in row for codec in target.codecs)
    assert platforms.PLATFORMS["amazon"].ratio == Fraction(16, 9)
    with pytest.raises(FashionFlowError, match="unknown target 'x'"):
        platforms.find_platform("x")
