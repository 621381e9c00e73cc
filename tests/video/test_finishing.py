"""Files for shops and platforms: one generation, each target's limits kept, backgrounds continued, nothing cut."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from catalogues import conventions, files, last, quick, shop
from command import assert_refused, run
from numpy.typing import NDArray
from places import ROOT

from fashionflow_core import video
from fashionflow_core.config import RATIOS, TARGETS, EncodeOptions, GenerateSettings, ModelConfig
from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.generators.remote_place import remote_config
from fashionflow_core.images.fitting import fit
from fashionflow_core.store import registry
from fashionflow_core.video import boxes, finishing, platforms
from fashionflow_core.video.canvas import VideoCanvas, photo_box, plan_canvas, ratio_of
from fashionflow_core.video.finishing import Finisher, FinishOptions, Footage, FrameStore
from fashionflow_core.video.timeline import adapted, timeline

PHOTO = ROOT / "examples" / "dress.jpg"


def _studio(height: int, width: int, shift: int = 0) -> NDArray[np.uint8]:
    """A figure before a backdrop that darkens downwards; its feet stand on the lower edge."""
    frame = np.empty((height, width, 3), np.uint8)
    frame[:] = np.linspace(240, 200, height)[:, None, None]
    left = width // 3 + shift
    frame[height // 8 :, left : left + width // 4] = (150, 30, 60)
    return frame


def _frames(count: int, height: int = 96, width: int = 72) -> list[NDArray[np.uint8]]:
    return [_studio(height, width, number % 5) for number in range(count)]


def _write(
    path: Path, options: FinishOptions, count: int, fps: float, size: tuple[int, int] = (96, 72), loop: bool = False
) -> list[Path]:
    """As the command line writes the files of a clip."""
    finishers = options.finishers(Footage(count, fps, *size, loop))
    paths = [path.with_name(name) for name in options.files(path.stem, path.suffix)]
    with FrameStore(paths[0]) as store:
        for frame in _frames(count, *size):
            store.add(frame)
        for finisher, file in zip(finishers, paths, strict=True):
            made = finisher

            def generated(made: Finisher = made) -> Iterator[NDArray[np.uint8]]:
                return store.read(made.order)

            finishing.write(finisher, generated, file, {"note": "x"}, EncodeOptions())
    return paths


@pytest.mark.parametrize("fps", [8.0, 25.0, 60.0])
@pytest.mark.parametrize("target", [pytest.param(n, marks=pytest.mark.slow) if n == "amazon" else n for n in TARGETS])
def test_every_target_keeps_its_own_limits(tmp_path: Path, target: str, fps: float):
    """Of a clip of 1.5 s, at rates below, within and above what targets take."""
    path = tmp_path / ("v.gif" if target == "gif" else "v.mp4")
    (made,) = _write(path, FinishOptions((target,)), round(1.5 * fps), fps)
    assert not platforms.check(made, platforms.find_platform(target))
    if target in ("reels", "web"):
        kinds = boxes.kinds(made)
        assert b"elst" not in kinds and kinds.index(b"moov") < kinds.index(b"mdat")


def test_the_table_of_names_is_that_of_the_limits():
    assert tuple(platforms.PLATFORMS) == TARGETS


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("size", [(96, 72), (72, 96), (1280, 960), (1002, 640), (2000, 1500)])
def test_a_canvas_has_the_ratio_and_holds_whole_frames(ratio: str, size: tuple[int, int]):
    (finisher,) = FinishOptions(ratio=ratio).finishers(Footage(2, 25, *size))
    made = finisher.size
    assert Fraction(made.width, made.height) == ratio_of(ratio) and made.height % 2 == made.width % 2 == 0
    assert made.top >= 0 and made.top + made.inner_height <= made.height
    assert made.left >= 0 and made.left + made.inner_width <= made.width
    assert made.inner_height / made.inner_width == pytest.approx(size[0] / size[1], rel=0.02)
    assert max(made.height, made.width) <= max(1920, *size) + 32


def test_frames_of_the_ratio_stay_as_they_are():
    frame = _studio(100, 80)
    (finisher,) = FinishOptions(ratio="4:5").finishers(Footage(1, 25, 100, 80))
    assert np.array_equal(finisher.still(frame), frame)
    (plain,) = FinishOptions().finishers(Footage(1, 25, 101, 77))
    odd = _studio(101, 77)
    assert plain.still(odd) is odd and not plain.metadata()


def test_bars_continue_the_background_without_the_figure():
    frame = _studio(90, 72)
    wide = VideoCanvas(frame, plan_canvas(90, 72, ratio=Fraction(16, 9))).place(frame)
    size = plan_canvas(90, 72, ratio=Fraction(16, 9))
    inside = wide[size.top : size.top + 90, size.left : size.left + 72]
    assert np.array_equal(inside, frame)
    sides = np.concatenate([wide[size.top : size.top + 90, : size.left], wide[size.top : size.top + 90, -40:]], axis=1)
    assert np.abs(sides.astype(int) - frame[:, :1]).max() <= 6, "each row goes on in its own grey"
    tall = VideoCanvas(frame, plan_canvas(90, 72, ratio=Fraction(9, 16))).place(frame)
    assert np.abs(tall[-10:].astype(int) - 200).max() <= 6, "feet on the edge are not drawn out into the bar"
    busy = np.random.default_rng(0).integers(0, 256, (90, 72, 3), np.uint8)
    noisy = VideoCanvas(busy, plan_canvas(90, 72, ratio=Fraction(1, 1))).place(busy)
    assert noisy[:, :8].std(axis=(0, 1)).max() < 90


@pytest.mark.parametrize("mode", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("ratio", ["1:1", "9:16", "16:9"])
def test_the_place_of_a_photo_in_a_video(mode: str, ratio: str):
    """A spot of the photo is where its box says: after a crop, in a frame, on a canvas."""
    photo = np.full((200, 150, 3), 240, np.uint8)
    photo[90:94, 70:74] = 0
    fitted = fit(photo, 120, 100, mode)
    frame = fitted.box.cut(fitted.pixels)
    (finisher,) = FinishOptions(ratio=ratio).finishers(Footage(1, 25, *frame.shape[:2]))
    shown = finisher.still(frame)
    left, top, width, height = photo_box(finisher.size, fitted.source, (200, 150))
    rows, columns = np.nonzero(shown[..., 0] < 150)
    assert (rows.mean() + 0.5) / shown.shape[0] == pytest.approx(top + height * 92 / 200, abs=0.012)
    assert (columns.mean() + 0.5) / shown.shape[1] == pytest.approx(left + width * 72 / 150, abs=0.012)


def test_timelines():
    reels, amazon, google = (platforms.find_platform(name) for name in ("reels", "amazon", "google"))
    assert list(timeline(75, 25, reels, False).order) == list(range(75))
    there = timeline(50, 25, reels, False).order
    assert list(there[:50]) == list(range(50)) and list(there[50:52]) == [48, 47] and len(there) == 99
    again = timeline(50, 25, reels, True).order
    assert list(again) == [*range(50), *range(50)]
    slow = timeline(16, 8, reels, True)
    assert slow.fps == 24 and list(slow.order[:4]) == [0, 0, 0, 1] and len(slow.order) == 96
    fast = timeline(360, 60, amazon, False)
    assert fast.fps == 30 and list(fast.order[:3]) == [0, 2, 4] and len(fast.order) == 180
    assert len(timeline(1, 25, google, False).order) == 150
    with pytest.raises(FashionFlowError, match=r"at most 45 s, not 50\.00 s"):
        timeline(1250, 25, amazon, False)


def test_requests_of_motion_models_are_those_that_all_targets_take():
    model = ModelConfig.load(registry.find("mini"))
    several = FinishOptions(("amazon", "reels", "gif")).limits
    made = adapted(GenerateSettings(), model, several)
    assert made.resolve(model).video_frames / made.resolve(model).fps == pytest.approx(6)
    filled = adapted(GenerateSettings(interpolate=2), model, several).resolve(model)
    assert filled.fps == 25 and filled.video_frames >= 150
    assert adapted(GenerateSettings(duration=4.0), model, several).duration == 4.0
    assert adapted(GenerateSettings(), model, FinishOptions(("gif",)).limits) == GenerateSettings()
    with pytest.raises(UsageError, match=r"amazon, reels take 23\.976 to 30 frames per second, not 60"):
        adapted(GenerateSettings(fps=60), model, several)


def test_frames_of_a_generator_are_asked_for_at_a_rate_of_the_target() -> None:
    model = remote_config("http://127.0.0.1/v1")
    slow = replace(model, fps=7.0)
    reels = FinishOptions(("reels",)).limits
    assert adapted(GenerateSettings(), model, reels) == GenerateSettings()
    assert adapted(GenerateSettings(), slow, reels) == GenerateSettings(fps=28.0), (
        "interpolated, not shown several times"
    )


def test_names():
    assert FinishOptions(("amazon",)).files("a", ".mp4") == ["a.mp4"]
    assert FinishOptions(("amazon", "shopify", "gif")).files("a", ".webm") == [
        "a.amazon.mp4",
        "a.shopify.webm",
        "a.gif",
    ]
    with pytest.raises(UsageError, match="google takes mp4, not webm"):
        FinishOptions(("google",)).files("a", ".webm")
    with pytest.raises(FashionFlowError, match="unknown target 'x'"):
        FinishOptions(("x",))
    with pytest.raises(UsageError, match="twice"):
        FinishOptions(("gif", "gif"))


def test_names_of_targets_and_files_without_a_name():
    assert FinishOptions.parse("Amazon, REELS,").targets == ("amazon", "reels")
    assert FinishOptions.parse(None).targets == ()
    assert FinishOptions(("gif",)).suffix() == ".gif" and FinishOptions(("gif",)).suffix(".gif") == ".gif"
    assert FinishOptions(("gif", "web")).suffix() == FinishOptions().suffix() == ".mp4"
    with pytest.raises(UsageError, match="names no target"):
        FinishOptions.parse("")


def test_an_end_card_beyond_the_length_of_a_target(tmp_path: Path):
    amazon = platforms.find_platform("amazon")
    with pytest.raises(FashionFlowError, match="at most 45 s") as raised:
        timeline(10, 25, amazon, False, after=50)
    assert "end_card_seconds" in str(raised.value.hint)


def _noise(count: int) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (96, 96, 3), np.uint8) for _ in range(count)]


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_a_limit_of_bytes_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str):
    """By the finest rate factor that fits; GIF has none and becomes smaller."""
    frames, path = _noise(6), tmp_path / f"v{suffix}"
    limits = platforms.find_platform("shopify")
    most = 60_000
    monkeypatch.setattr(finishing.Finisher, "encode", lambda self, options, kind: _limited(options, most))
    (finisher,) = FinishOptions(("shopify",)).finishers(Footage(6, 10, 96, 96))
    info = finishing.write(finisher, lambda: iter(frames), path, {}, EncodeOptions())
    assert path.stat().st_size <= most and info.frames == 6 and not platforms.check(path, limits)
    if suffix == ".gif":
        assert 64 <= info.width < 96
    else:
        assert info.width == 96
        sizes = {}
        for crf in range(18, 52):
            try:
                video.write(iter(frames), tmp_path / "x.mp4", 10, 6, options=_limited(EncodeOptions(crf), most))
                sizes[crf] = (tmp_path / "x.mp4").stat().st_size
            except FashionFlowError:
                assert not sizes
        assert abs(sizes[min(sizes)] - path.stat().st_size) < 1000, "the finest"
    most = 900
    with pytest.raises(FashionFlowError, match="even"):
        finishing.write(finisher, lambda: iter(frames), tmp_path / f"w{suffix}", {}, EncodeOptions())
    assert not (tmp_path / f"w{suffix}").exists()


def _limited(options: EncodeOptions, most: int) -> EncodeOptions:
    from dataclasses import replace

    return replace(options, max_bytes=most)


def test_several_files_take_the_options_of_their_format():
    finish, options = FinishOptions(("reels", "gif")), EncodeOptions(crf=30, codec="hevc", encoder="hardware")
    assert finish.encode(options, "v.reels.mp4") == options
    assert finish.encode(options, "v.gif") == EncodeOptions()
    assert finish.encode(options, "v.webm") == EncodeOptions(crf=30)
    assert finish.encode(EncodeOptions(encoder="av1_nvenc"), "v.mp4").encoder == "av1_nvenc"
    assert FinishOptions(("gif",)).encode(options, "v.gif") == options, "for one file all of them are asked for"


def test_hevc_for_streaming_has_closed_groups(tmp_path: Path):
    from fashionflow_core.video import reading

    frames = (_studio(64, 48, number % 7) for number in range(300))
    video.write(frames, tmp_path / "v.mp4", 25, 300, options=EncodeOptions(codec="hevc", streaming=True))
    assert not reading.has_open_groups(tmp_path / "v.mp4") and b"elst" not in boxes.kinds(tmp_path / "v.mp4")


def test_catalogues_write_every_target(tmp_path: Path):
    """And keep what is finished; an item that lacks a file is made again."""
    shop(tmp_path / "photos", 2)
    model = conventions(tmp_path / "model")
    arguments = ("photos", "-o", "out", "-m", model, "--for", "reels,gif", "--ratio", "9:16", "-q")
    done = quick(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = [f"00{n}{end}" for n in (0, 1) for end in ("-poster.jpg", ".gif", ".reels.mp4")]
    assert files(tmp_path / "out") == names
    record = last(tmp_path / "out")["000"]
    assert (record["output"], record["more_outputs"]) == ("000.reels.mp4", ["000.gif"])
    assert record["generated_frames"] == 4 and record["frames"] >= 75
    assert record["photo_box"][1] > 0.1 and record["photo_box"][2] == pytest.approx(1, abs=0.02)
    assert record["width"] * 16 == record["height"] * 9 and record["scores"]["first_psnr"] > 25
    for name in ("000.reels.mp4", "000.gif"):
        assert not platforms.check(
            tmp_path / "out" / name, platforms.find_platform("gif" if "gif" in name else "reels")
        )
    count = len((tmp_path / "out" / "manifest.jsonl").read_text().splitlines())
    assert quick(*arguments, cwd=tmp_path).returncode == 0
    assert len((tmp_path / "out" / "manifest.jsonl").read_text().splitlines()) == count
    (tmp_path / "out" / "001.gif").unlink()
    assert quick(*arguments, cwd=tmp_path).returncode == 0
    assert len((tmp_path / "out" / "manifest.jsonl").read_text().splitlines()) == count + 1
    assert files(tmp_path / "out") == names


def test_refusals(tmp_path: Path):
    shutil.copy(PHOTO, tmp_path / "dress.jpg")
    for arguments, words in (
        (("--for", "myspace"), ("--for", "unknown target", "myspace")),
        (("--for", ","), ("--for", "names no target")),
        (("--for", "gif", "-o", "v.mp4"), ("--for", "gif", "not mp4")),
        (("--for", "google", "-o", "v.webm"), ("--for", "google", "mp4")),
        (("--for", "amazon", "--fps", "60"), ("--fps", "amazon", "23.976 to 30")),
        (("--for", "amazon", "--duration", "50"), ("amazon", "45 s")),
        (("--ratio", "3:2"), ("--ratio", "4:5")),
        (("--for", "amazon,amazon"), ("--for", "twice")),
    ):
        refused = run("generate", "dress.jpg", *arguments, cwd=tmp_path)
        assert_refused(refused, 1 if "45 s" in words else 2, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["dress.jpg"]
