"""What is written has the right colours, count, rate and text, and reads back; test_video_failures.py has the rest."""

import itertools
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import flat, moving
from PIL import Image

from fashionflow_core import video
from fashionflow_core.errors import FashionFlowError


def boxes(data: bytes) -> list[str]:
    """Names of the top-level boxes of an MP4 file, in order (ISO 14496-12: 32-bit size, four letters)."""
    names, at = [], 0
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        names.append(name.decode())
        at += size
    return names


# Colours


@pytest.mark.parametrize("height, width", [(32, 32), (18, 34), (2, 2)])
def test_flat_colours_round_trip_within_two(tmp_path: Path, height: int, width: int) -> None:
    """Corners, edges and inside of the colour cube; one colour a frame, so that coding cannot lean on others."""
    levels = (0, 31, 128, 200, 255) if height == 32 else (0, 128, 255)
    colours = list(itertools.product(levels, repeat=3))
    path = tmp_path / "flat.mp4"
    video.write((flat(c, height, width) for c in colours), path, 25, len(colours))
    worst = np.abs(video.read(path).astype(int) - np.array(colours)[:, None, None]).max()
    assert worst <= 2


def test_stored_planes_are_bt709_limited_range(tmp_path: Path) -> None:
    """Against the definition (ITU-R BT.709, 3.2 to 3.5), not against the same library's way back."""
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (230, 120, 40)]
    path = tmp_path / "planes.mp4"
    video.write((flat(c) for c in colours), path, 25, len(colours))
    with av.open(str(path)) as container:
        for frame, (red, green, blue) in zip(container.decode(video=0), np.array(colours) / 255):
            luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
            expected = (16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748)
            for plane, value in zip(frame.planes, expected):
                stored = np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
                assert np.abs(stored - value).max() <= 1.5


def test_photo_survives(tmp_path: Path, golden: Path) -> None:
    photo = np.asarray(Image.open(golden / "blue.jpg"))
    path = tmp_path / "photo.mp4"
    video.write([photo] * 5, path, 25, 5)
    error = video.read(path).astype(float) - photo
    assert 10 * np.log10(255**2 / (error**2).mean()) > 38
    assert np.abs(error.mean(axis=(0, 1, 2))).max() < 0.3  # no channel drifts


def test_all_four_colour_tags_are_in_container_and_bitstream(tmp_path: Path) -> None:
    path = tmp_path / "tags.mp4"
    video.write(moving(5), path, 25, 5)
    colr = b"colrnclx" + struct.pack(">HHHB", 1, 1, 1, 0)  # primaries, transfer, matrix: BT.709; not full range
    assert colr in path.read_bytes()
    # The H.264 stream alone, without the container's box, carries them too (VUI).
    bare = tmp_path / "tags.h264"
    with av.open(str(path)) as source, av.open(str(bare), "w", format="h264") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    with av.open(str(bare)) as container:
        frame = next(container.decode(video=0))
        assert frame.format.name == "yuv420p"
        assert (frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc) == (1, 1, 1, 1)


@pytest.mark.parametrize(
    "pix_fmt, matrix, sws_range, tag_range",
    [("yuv420p", 5, 1, 0), ("yuv420p", 6, 1, 1), ("yuv444p", 1, 2, 2), ("yuvj420p", 5, 2, 2), ("yuv420p", 2, 1, 0)],
)
def test_foreign_files_are_read_by_their_own_tags(
    tmp_path: Path, pix_fmt: str, matrix: int, sws_range: int, tag_range: int
) -> None:
    """BT.601, full range, full range by format name, and no tags at all, which means BT.601."""
    path = tmp_path / "foreign.mp4"
    colours = [(200, 40, 60), (20, 180, 90), (30, 60, 220)]
    sws_matrix = 1 if matrix == 1 else 5
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width = stream.height = 32
        stream.pix_fmt = pix_fmt
        stream.colorspace, stream.color_range = matrix, tag_range
        for colour in colours:
            frame = av.VideoFrame.from_ndarray(flat(colour), format="rgb24").reformat(
                format=pix_fmt,
                src_colorspace=sws_matrix,
                dst_colorspace=sws_matrix,
                src_color_range=2,
                dst_color_range=sws_range,
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    worst = np.abs(video.read(path).astype(int) - np.array(colours)[:, None, None]).max()
    assert worst <= 4


# The file


@pytest.mark.parametrize("fps", [25, 29.97, 30000 / 1001, 24000 / 1001, 12.5, 0.5, 60, 7.3])
@pytest.mark.parametrize("count", [1, 2, 70])
def test_count_rate_and_duration_are_exact(tmp_path: Path, fps: float, count: int) -> None:
    path = tmp_path / "clip.mp4"
    info = video.write(moving(count, 16, 32), path, fps, count)
    rate = Fraction(fps).limit_denominator(1001)
    assert info == video.VideoInfo(path, count, 32, 16, float(rate))
    assert video.probe(path) == info
    assert abs(info.fps - fps) < 1e-6
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == rate
        assert stream.duration is not None and stream.time_base is not None
        assert stream.duration * stream.time_base == count / rate
        times = [(frame.pts or 0) * stream.time_base for frame in container.decode(stream)]
        assert times == [index / rate for index in range(count)]
    assert len(video.read(path)) == count


def test_moov_precedes_mdat(tmp_path: Path) -> None:
    path = tmp_path / "fast.mp4"
    video.write(moving(30), path, 25, 30)
    names = boxes(path.read_bytes())
    assert names.index("moov") < names.index("mdat")


def test_metadata_reads_back_as_it_was(tmp_path: Path) -> None:
    metadata = {
        "title": 'Robe d’été "bleue" = 1; 2',
        "comment": "two\nlines \\ and a tab\t.",
        "fashionflow_seed": "7",
        "fashionflow_settings": '{"steps": 50, "model": "mini-latent"}',
        "fashionflow_empty": "",
        "fashionflow_long": "x" * 20_000,
        "日本語": "ワンピース",
    }
    path = tmp_path / "text.mp4"
    video.write(moving(3), path, 25, 3, metadata)
    assert video.read_metadata(path) == metadata
    video.write(moving(3), path, 25, 3)
    assert video.read_metadata(path) == {}


@pytest.mark.parametrize("bad", [{"": "x"}, {"encoder": "me"}, {"a": "b\0c"}, {"a\0": "b"}, {"a": "\ud800"}, {"a": 7}])
def test_metadata_that_would_be_lost_is_refused_before_any_frame(tmp_path: Path, bad: dict[str, Any]) -> None:
    frames = moving(3)
    with pytest.raises(FashionFlowError, match="metadata"):
        video.write(frames, tmp_path / "text.mp4", 25, 3, bad)
    assert len(list(frames)) == 3
    assert list(tmp_path.iterdir()) == []


def test_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        video.write(moving(40, 96, 128), tmp_path / name, 25, 40, {"fashionflow_seed": "1"})
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_name_with_a_colon_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    video.write(moving(3), "12:30.mp4", 25, 3)
    assert video.read("12:30.mp4").shape == (3, 48, 64, 3)
    assert [p.name for p in tmp_path.iterdir()] == ["12:30.mp4"]


def test_non_contiguous_frames_are_stored_as_they_look(tmp_path: Path) -> None:
    straight = list(moving(3))
    video.write(straight, tmp_path / "straight.mp4", 25, 3)
    turned = [np.ascontiguousarray(frame.transpose(2, 0, 1)).transpose(1, 2, 0) for frame in straight]
    video.write(turned, tmp_path / "turned.mp4", 25, 3)
    assert (tmp_path / "straight.mp4").read_bytes() == (tmp_path / "turned.mp4").read_bytes()


# Reading


def test_limit_reads_the_first_frames(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    video.write(moving(12), path, 25, 12)
    whole = video.read(path)
    np.testing.assert_array_equal(video.read(path, 5), whole[:5])
    np.testing.assert_array_equal(video.read(path, 50), whole)
    np.testing.assert_array_equal(np.stack(list(video.iter_frames(path))), whole)
    with pytest.raises(FashionFlowError, match="limit"):
        video.read(path, 0)


def test_text_in_another_encoding_does_not_cost_the_video(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    video.write(moving(3), path, 25, 3, {"title": "Robe d'ete."})
    path.write_bytes(path.read_bytes().replace(b"d'ete.", "d'été.".encode("latin-1")))
    assert video.read(path).shape[0] == 3
    assert video.read_metadata(path)["title"] == "Robe d'\ufffdt\ufffd."


def test_container_that_does_not_number_its_frames_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for frame in moving(9):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    assert video.probe(path) == video.VideoInfo(path, 9, 64, 48, 25.0)
