"""When something goes wrong there is one line that names the file, no new file, and the old one as it was."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.error import ExternalError
from clips import flat, moving

from fashionflow_core import video
from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.video import writing

# Nothing half-written


def fails(frames: Any, path: Path, count: int, match: str, **kwargs: Any) -> None:
    """Writing fails with one line that names the file, and neither adds a file nor touches the old one."""
    path.write_bytes(b"an older video")
    with pytest.raises(FashionFlowError, match=match) as caught:
        video.write(frames, path, kwargs.pop("fps", 25), count, **kwargs)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == b"an older video"


@pytest.mark.parametrize("suffix", video.SUFFIXES)
def test_unusable_frames_leave_nothing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip{suffix}"
    fails([], path, 70, "got no frames, expected 70")
    fails(moving(69), path, 70, "got only 69 of 70 frames")
    fails(moving(71), path, 70, "got more frames than the expected 70")
    fails(itertools.cycle(moving(2)), path, 70, "got more frames than the expected 70")
    fails([flat((1, 2, 3)), flat((1, 2, 3), 32, 34)], path, 2, "frame 1 is 32x34, unlike frame 0: 32x32")
    fails([flat((1, 2, 3)).astype(np.float32)], path, 1, "must be uint8")
    fails([flat((1, 2, 3))[:, :, 0]], path, 1, "must be uint8")
    fails([flat((1, 2, 3))[:0]], path, 1, "0x32: it has no pixels")
    fails(["frame"], path, 1, "must be uint8")


def test_bad_arguments_leave_nothing(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    for fps in (0, -1, float("nan"), float("inf"), 1e-9, 1e9):
        fails(moving(1), path, 1, "fps must be", fps=fps)
    fails(moving(1), path, 0, "at least 1 frame")
    fails(moving(1), path, 1, "crf: must be from 0 to 51 for h264, not 52", crf=52)
    fails(moving(1), path, 1, "metadata", metadata={"encoder": "x"})
    for name in ("clip.avi", "clip", "clip.mp4.txt", "mp4"):
        with pytest.raises(UsageError, match=r"videos are written as \.mp4, \.webm, \.gif or \.webp"):
            video.write(moving(1), tmp_path / name, 25, 1)
    with pytest.raises(FashionFlowError, match="does not exist"):
        video.write(moving(1), tmp_path / "no" / "clip.mp4", 25, 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError, MemoryError, FashionFlowError])
@pytest.mark.parametrize("after", [0, 1, 60])
@pytest.mark.parametrize("suffix", video.SUFFIXES)
def test_an_error_between_frames_passes_through_and_leaves_nothing(
    tmp_path: Path, suffix: str, error: type[BaseException], after: int
) -> None:
    def frames() -> Iterator[np.ndarray]:
        yield from moving(after)
        raise error("from the model")

    path = tmp_path / f"clip{suffix}"
    path.write_bytes(b"an older video")
    with pytest.raises(error, match="from the model"):
        video.write(frames(), path, 25, 70)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"an older video"


@pytest.mark.parametrize(
    "name, codec",
    [
        ("clip.mp4", "h264"),
        ("clip.mp4", "hevc"),
        ("clip.mp4", "av1"),
        ("clip.webm", "vp9"),
        ("clip.webp", None),
        ("clip.gif", None),
    ],
)
def test_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, name: str, codec: str | None) -> None:
    resource = pytest.importorskip("resource", reason="limits on file sizes are POSIX's")
    noise = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), dtype=np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / name
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        fails(noise, path, 30, "could not be written|the written file", codec=codec)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("suffix", video.SUFFIXES)
def test_what_does_not_read_back_is_not_put_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Damage done between encoding and the check: the check reads the file itself, not what it meant to write."""
    encode = writing.encode

    def cut(frames: Any, temporary: Path, *rest: Any) -> tuple[int, int, str]:
        made = encode(frames, temporary, *rest)
        data = temporary.read_bytes()
        temporary.write_bytes(data[: len(data) * 2 // 3])
        return made

    def drop_one(frames: Any, temporary: Path, wanted: writing.Encoding) -> tuple[int, int, str]:
        fewer = replace(wanted, count=wanted.count - 1)
        return encode(itertools.islice(frames, fewer.count), temporary, fewer)

    for damage, match in (
        (cut, "the written file is cut off"),
        (drop_one, r"frames, height, width \(29, 48, 64\), not \(30, 48, 64\)"),
    ):
        monkeypatch.setattr(writing, "encode", damage)
        fails(moving(30), tmp_path / f"clip{suffix}", 30, match)


@pytest.mark.parametrize("suffix", video.SUFFIXES)
def test_an_encoder_that_dies_midway_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """As a graphics card does whose driver is reset: the twentieth frame is refused, and so is all that comes after."""
    make = writing.open_sink

    def dying(*arguments: Any) -> Any:
        sink = make(*arguments)
        add = sink.add
        taken = itertools.count()

        def refuse(*_: Any) -> None:
            raise ExternalError(542398533, "the device was lost")

        def take(frame: np.ndarray) -> None:
            refuse() if next(taken) >= 20 else add(frame)

        sink.add, sink.finish = take, refuse
        return sink

    monkeypatch.setattr(writing, "open_sink", dying)
    fails(moving(30), tmp_path / f"clip{suffix}", 30, "could not be written")


@pytest.mark.parametrize("tag", ["color_range", "colorspace", "color_primaries", "color_trc"])
def test_a_lost_or_wrong_colour_tag_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: str) -> None:
    create = writing.create_stream

    def mistagged(*arguments: Any) -> Any:
        container, stream = create(*arguments)
        setattr(stream, tag, 2)  # FFmpeg's value for "unspecified"; as a range, full
        return container, stream

    monkeypatch.setattr(writing, "create_stream", mistagged)
    fails(moving(5), tmp_path / "clip.mp4", 5, "colour tags")


def test_a_folder_of_that_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").mkdir()
    with pytest.raises(FashionFlowError, match="is a folder"):
        video.write(moving(1), tmp_path / "clip.mp4", 25, 1)


# What cannot be read


@pytest.mark.parametrize("use", [video.read, video.probe, video.read_metadata])
def test_what_is_no_video_is_refused_in_one_line(tmp_path: Path, use: Any) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(FashionFlowError) as caught:
            use(path)
        assert str(path) in caught.value.message
        assert "\n" not in caught.value.message
        return caught.value.message

    assert "no such file" in refused(tmp_path / "missing.mp4")
    assert "is a folder" in refused(tmp_path)
    empty = tmp_path / "empty.mp4"
    empty.touch()
    assert "is empty" in refused(empty)
    text = tmp_path / "text.mp4"
    text.write_text("this is a text\n" * 50)
    assert "not a video" in refused(text)
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=44_100, layout="mono")
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 4410), np.float32), format="fltp", layout="mono")
        tone.sample_rate = 44_100
        container.mux(stream.encode(tone))
        container.mux(stream.encode())
    assert "contains no video" in refused(sound)


@pytest.mark.parametrize("kept", [0.25, 0.5, 0.75, 0.999])
@pytest.mark.parametrize("suffix", video.SUFFIXES)
def test_videos_that_are_cut_off_are_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"clip{suffix}"
    video.write(moving(70), path, 25, 70)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(FashionFlowError, match=r"cut off|damaged"):
        video.read(path)


@pytest.mark.parametrize("suffix", video.SUFFIXES)
def test_damage_inside_is_refused_or_decoded_but_never_another_error(tmp_path: Path, suffix: str) -> None:
    random = np.random.default_rng(0)
    whole = tmp_path / f"whole{suffix}"
    video.write(moving(10), whole, 25, 10, {"title": "x"})
    path = tmp_path / f"hurt{suffix}"
    for _ in range(60):
        data = bytearray(whole.read_bytes())
        for at in random.integers(0, len(data), 8):
            data[at] = random.integers(256)
        path.write_bytes(data)
        try:
            assert video.read(path).shape[0] >= 1
            video.read_metadata(path)
        except FashionFlowError as error:
            assert str(path) in error.message
