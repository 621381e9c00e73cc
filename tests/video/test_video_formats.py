"""Every kind of video that is written: colours, counts, rates, sizes. test_video_options.py has text and options."""

import io
import itertools
import struct
import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import KINDS, every_kind, flat, moving
from PIL import Image

from fashionflow_core import video
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning
from fashionflow_core.synthetic.clips import render_clip


@pytest.fixture(scope="module")
def rendered() -> np.ndarray:
    """A dressed figure that moves: uint8 (24, 160, 128, 3)."""
    return render_clip(3, frames=24, height=160, width=128).frames


def decibels(found: np.ndarray, expected: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(((found.astype(float) - expected) ** 2).mean(), 1e-6))


# Colours


@pytest.mark.parametrize("suffix, codec", [kind for kind in KINDS if kind[0] in (".mp4", ".webm")])
def test_flat_colours_round_trip_within_two_in_every_codec(tmp_path: Path, suffix: str, codec: str) -> None:
    """Corners, edges and inside of the colour cube; one colour a frame, so that coding cannot lean on others."""
    colours = list(itertools.product((0, 31, 128, 200, 255), repeat=3))
    path = tmp_path / f"flat{suffix}"
    video.write((flat(c) for c in colours), path, 25, len(colours), codec=codec)
    worst = np.abs(video.read(path).astype(int) - np.array(colours)[:, None, None]).max()
    assert worst <= 2


def test_flat_colours_in_gif_and_webp(tmp_path: Path) -> None:
    """125 colours fit into a GIF's palette; WebP is coded with a loss, in BT.601."""
    colours = list(itertools.product((0, 31, 128, 200, 255), repeat=3))
    for suffix, most in ((".gif", 1), (".webp", 5)):
        path = tmp_path / f"flat{suffix}"
        video.write((flat(c) for c in colours), path, 25, len(colours))
        worst = np.abs(video.read(path).astype(int) - np.array(colours)[:, None, None]).max()
        assert worst <= most, suffix


@every_kind
def test_a_clip_looks_like_the_original(tmp_path: Path, rendered: np.ndarray, suffix: str, codec: str | None) -> None:
    path = tmp_path / f"clip{suffix}"
    video.write(rendered, path, 25, len(rendered), codec=codec)
    frames = video.read(path)
    # Small frames with sharp edges, of which 4:2:0 alone costs all but 36.5 dB.
    assert decibels(frames, rendered) > 33.5
    assert np.abs((frames.astype(float) - rendered).mean(axis=(0, 1, 2))).max() < 0.6  # no channel drifts


@pytest.mark.parametrize("suffix, codec", [kind for kind in KINDS if kind[0] in (".mp4", ".webm")])
def test_every_codec_is_tagged_bt709_limited(tmp_path: Path, suffix: str, codec: str) -> None:
    path = tmp_path / f"tags{suffix}"
    info = video.write(moving(3), path, 25, 3, codec=codec)
    assert (info.codec, video.probe(path).codec) == (codec, codec)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.color_range, stream.colorspace, stream.color_primaries, stream.color_trc) == (1, 1, 1, 1)
        frame = next(container.decode(stream))
        assert (frame.color_range, frame.colorspace, frame.format.name) == (1, 1, "yuv420p")
        if codec == "hevc":
            assert stream.codec_context.codec_tag == "hvc1"  # the name without which Apple's players show nothing


def test_less_crf_is_closer_and_larger_in_every_codec(tmp_path: Path, rendered: np.ndarray) -> None:
    for suffix, codec in KINDS[:5]:
        sizes, closeness = [], []
        for crf in (10, 45):
            path = tmp_path / f"clip{suffix}"
            video.write(rendered[:6], path, 25, 6, codec=codec, crf=crf)
            sizes.append(path.stat().st_size)
            closeness.append(decibels(video.read(path), rendered[:6]))
        assert sizes[0] > 2 * sizes[1] and closeness[0] > closeness[1] + 3, (suffix, codec)


# The file


@every_kind
@pytest.mark.parametrize("height, width", [(33, 47), (34, 47), (33, 48), (21, 19)])
def test_odd_sides_are_kept_or_gain_one_pixel_of_their_edge(
    tmp_path: Path, suffix: str, codec: str | None, height: int, width: int
) -> None:
    path = tmp_path / f"odd{suffix}"
    frames = np.stack(list(moving(3, height, width)))
    info = video.write(frames, path, 25, 3, codec=codec)
    stored = video.read(path)
    even = suffix in (".mp4", ".webm")
    assert (info.height, info.width) == ((height + 1) // 2 * 2, (width + 1) // 2 * 2) if even else (height, width)
    assert stored.shape == (3, info.height, info.width, 3)
    # Nothing is moved or scaled: the source comes first, then its own edge again.
    expected = np.pad(frames, ((0, 0), (0, info.height - height), (0, info.width - width), (0, 0)), mode="edge")
    smooth = expected.copy()
    smooth[:, :26] = stored[:, :26]  # above, the block's sharp edges lose chroma
    assert decibels(stored, smooth) > 38


@pytest.mark.parametrize("suffix", video.SUFFIXES)
@pytest.mark.parametrize("height, width", [(1, 1), (1, 50), (17, 3)])
def test_the_smallest_frames_are_written(tmp_path: Path, suffix: str, height: int, width: int) -> None:
    path = tmp_path / f"small{suffix}"
    video.write([flat((200, 40, 60), height, width)] * 2, path, 25, 2)
    assert np.abs(video.read(path).astype(int) - (200, 40, 60)).max() <= 2


def test_frames_too_small_for_a_codec_are_refused(tmp_path: Path) -> None:
    for suffix, codec in ((".mp4", "hevc"), (".mp4", "av1"), (".webm", "av1")):
        with pytest.raises(FashionFlowError, match=f"frames are 14x64; {codec} takes sides from 16"):
            video.write([flat((1, 2, 3), 14, 64)], tmp_path / f"small{suffix}", 25, 1, codec=codec)
    assert list(tmp_path.iterdir()) == []


@every_kind
@pytest.mark.parametrize("fps", [25, 10, 50, 12.5])
@pytest.mark.parametrize("count", [1, 2, 3, 30])
def test_count_and_rate_are_exact(tmp_path: Path, suffix: str, codec: str | None, fps: float, count: int) -> None:
    path = tmp_path / f"clip{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        info = video.write(moving(count), path, fps, count, codec=codec)
    assert info == video.VideoInfo(path, count, 64, 48, fps)
    if (suffix, count) != (".webp", 1):  # a still picture, which has no rate
        assert video.probe(path) == info
    assert len(video.read(path)) == count
    assert len(video.read(path, 1)) == 1


@pytest.mark.parametrize("fps", [29.97, 30000 / 1001, 24000 / 1001, 7.3, 60, 1000, 0.5])
def test_webm_rates_are_exact(tmp_path: Path, fps: float) -> None:
    path = tmp_path / "clip.webm"
    info = video.write(moving(5, 16, 32), path, fps, 5)
    assert abs(info.fps - fps) < 1e-6
    assert video.probe(path) == info


@pytest.mark.parametrize("fps, used", [(30, 100 / 3), (60, 50), (1000, 50), (23.976, 25), (29.97, 100 / 3), (24, 25)])
def test_gif_takes_the_nearest_rate_that_it_has_and_says_so(tmp_path: Path, fps: float, used: float) -> None:
    path = tmp_path / "clip.gif"
    with pytest.warns(FashionFlowWarning, match=f"gif has no {fps:g} frames per second; it gets {used:.4g}") as caught:
        info = video.write(moving(5), path, fps, 5)
    assert len(caught) == 1 and caught[0].filename == __file__  # whoever called is named, not this library
    assert info.fps == pytest.approx(used)
    assert video.probe(path) == info


@pytest.mark.parametrize("fps", [30, 24, 60, 29.97, 30000 / 1001, 7.3, 90])
def test_webp_places_every_frame_to_the_nearest_millisecond(tmp_path: Path, fps: float) -> None:
    path = tmp_path / "clip.webp"
    info = video.write(moving(40, 16, 16), path, fps, 40)
    assert info.fps == pytest.approx(fps)
    with Image.open(path) as picture:
        shown, ends = 0, []
        for index in range(getattr(picture, "n_frames", 1)):
            picture.seek(index)
            picture.load()
            shown += picture.info["duration"]
            ends.append(shown)
    np.testing.assert_allclose(ends, [1000 * (index + 1) / fps for index in range(40)], atol=0.5 + 1e-3)
    assert video.probe(path).fps == pytest.approx(fps, rel=1e-3)


def test_webp_too_fast_for_browsers_is_slowed_and_rates_too_slow_are_refused(tmp_path: Path) -> None:
    with pytest.warns(FashionFlowWarning, match=r"webp has no 120 frames per second; it gets 90\.91"):
        video.write(moving(3), tmp_path / "clip.webp", 120, 3)
    with pytest.raises(FashionFlowError, match=r"fps must be at least 0\.00153 for gif"):
        video.write(moving(3), tmp_path / "slow.gif", 1e-3, 3)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_frames_that_do_not_change_stay_frames(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"still{suffix}"
    assert video.write([flat((10, 90, 200))] * 7, path, 25, 7).frames == 7
    assert video.probe(path) == video.VideoInfo(path, 7, 32, 32, 25)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animations_play_for_ever(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip{suffix}"
    video.write(moving(3), path, 25, 3)
    with Image.open(path) as picture:
        assert picture.info["loop"] == 0


def test_gif_has_one_palette_for_the_whole_clip(tmp_path: Path, rendered: np.ndarray) -> None:
    path = tmp_path / "clip.gif"
    video.write(rendered, path, 25, len(rendered))
    data = path.read_bytes()
    assert data[10] & 0x80 and 2 << (data[10] & 7) == 256  # global colour table (GIF89a, 18)
    assert len(np.unique(video.read(path).reshape(-1, 3), axis=0)) <= 255
    at, local = 13 + 3 * 256, 0
    while data[at] != 0x3B:
        if data[at] == 0x21:
            at += 2
        else:
            local += data[at + 9] >> 7
            at += 11
        while data[at]:
            at += data[at] + 1
        at += 1
    assert local == 0


def test_foreign_animations_show_transparency_on_white(tmp_path: Path) -> None:
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[:4] = (200, 30, 40, 255)
    for suffix in (".gif", ".webp"):
        path = tmp_path / f"alpha{suffix}"
        Image.fromarray(rgba).save(path, lossless=True)  # which GIF takes no notice of
        frame = video.read(path)[0]
        np.testing.assert_array_equal(frame[:4], np.broadcast_to((200, 30, 40), (4, 8, 3)))
        np.testing.assert_array_equal(frame[4:], 255)


def test_a_segment_of_unknown_length_is_no_cut_off_file(tmp_path: Path) -> None:
    """As live recordings have it (RFC 8794, 6.2): all ones for the length."""
    path = tmp_path / "clip.webm"
    video.write(moving(5), path, 25, 5)
    data = bytearray(path.read_bytes())
    at = data.index(b"\x18\x53\x80\x67") + 4
    assert data[at] == 1 and struct.unpack(">Q", b"\0" + data[at + 1 : at + 8])[0] + at + 8 == len(data)
    data[at + 1 : at + 8] = b"\xff" * 7
    path.write_bytes(data)
    assert len(video.read(path)) == 5


def test_ticks_are_those_of_an_independent_count() -> None:
    """29.97 frames a second in milliseconds, counted by hand."""
    from fashionflow_core.video import animated, formats

    assert animated.ticks(Fraction(2997, 100), 3, formats.CONTAINERS[".webp"]) == [0, 33, 67, 100]
    assert animated.ticks(Fraction(25), 3, formats.CONTAINERS[".gif"]) == [0, 4, 8, 12]


def test_a_header_that_asks_for_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.webp"
    video.write(moving(2), path, 25, 2)
    data = io.BytesIO(path.read_bytes())
    data.seek(24)
    data.write((16_000 - 1).to_bytes(3, "little") * 2)
    path.write_bytes(data.getvalue())
    with pytest.raises(FashionFlowError, match=r"bomb\.webp: (frames of 16000x16000 are too large|is damaged)"):
        video.read(path)
