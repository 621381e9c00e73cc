"""Folders of clips judged: laws of the whole way, what odd clips do, and which clips are judged."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from clip_damage import DOTS, STRIPES
from clip_sets import named_clip, write_clip, write_frames, write_set
from clips import muxed
from PIL import Image
from places import ROOT
from tiny_encoder import write_encoder

from fashionflow_core import video
from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.evaluate.protocol import FREE, METRICS, EvaluateOptions, Protocol
from fashionflow_core.evaluate.run import evaluate
from fashionflow_core.evaluate.sources import find_clips, look, read_clip, window_start
from fashionflow_core.synthetic.clips import render_clip

SCHEMAS = ROOT / "docs" / "reference" / "schemas"
pytestmark = pytest.mark.filterwarnings("ignore::fashionflow_core.errors.FashionFlowWarning")
# VFID looks at clips at their own size, so that it is the quickest of the distances here.
QUICK = Protocol(metrics=("vfid", "psnr", "ssim"), bootstrap=20)
ALL = Protocol(bootstrap=20, inception_frames=3)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `real` and `fake` of five clips each. Not to be changed: copy them."""
    folder = tmp_path_factory.mktemp("sets")
    write_set(folder / "real", "real")
    write_set(folder / "fake", "fake")
    return folder


@pytest.fixture(scope="module")
def whole(sets: Path, metric_weights: Path) -> dict[str, Any]:
    """Everything measured of the two sets."""
    return evaluate(sets / "real", sets / "fake", EvaluateOptions(ALL, metric_weights))


@pytest.mark.slow
def test_everything_is_measured(whole: dict[str, Any]):
    schema = json.loads((SCHEMAS / "evaluate.json").read_text(encoding="utf-8"))
    jsonschema.validate(json.loads(json.dumps(whole, allow_nan=False)), schema)
    assert set(METRICS) - {*FREE, "silhouette"} <= set(whole["metrics"])
    assert whole["failed"] == [] and [omission["metrics"] for omission in whole["omitted"]] == [["garment"]]
    assert {"silhouette_overlap", "skin_gap", "pattern_kept", "warping_error", "garment_error"} <= set(whole["metrics"])
    assert whole["samples"]["real"] == whole["samples"]["fake"] == whole["samples"]["pairs"] == 5
    for metric in ("fvd", "vfid", "fid", "rfd"):
        low, high = whole["intervals"][metric]
        assert 0 <= low <= whole["metrics"][metric] <= high
        assert whole["metrics"][metric] > 0 and whole["floors"][metric] > 0
        assert any(line.startswith(f"{metric}: ") and "biased" in line for line in whole["warnings"])
    low, high = whole["reference_intervals"]["garment_drift"]
    assert low < whole["reference"]["garment_drift"] < high
    assert whole["samples"]["fid"] == {"real": 15, "fake": 15}
    assert 1 <= whole["metrics"]["is"] < 1008 and whole["metrics"]["psnr"] > 0
    assert {"garment_drift", "silhouette_correlation", "first_step"} <= set(whole["metrics"])
    record = whole["protocol"]
    assert [clip["name"] for clip in record["clips"]["real"]] == [f"clip {i}.mp4" for i in range(5)]
    assert all(clip["fvd_frames"][1] - clip["fvd_frames"][0] == 15 for clip in record["clips"]["fake"])
    assert not record["weights"]["i3d"]["public"] and len(record["weights"]["i3d"]["sha256"]) == 64


@pytest.mark.slow
def test_a_set_and_itself(sets: Path, metric_weights: Path, whole: dict[str, Any]):
    found = evaluate(sets / "real", sets / "real", EvaluateOptions(replace(ALL, bootstrap=0), metric_weights))
    for metric in ("fvd", "vfid", "fid", "rfd"):
        assert found["metrics"][metric] == pytest.approx(0, abs=1e-7 * whole["metrics"][metric])
    assert found["metrics"]["ssim"] == 1 and found["metrics"]["psnr"] is None
    assert any("infinite for 5 equal pairs" in line for line in found["warnings"])
    assert any("the same" in line for line in found["warnings"])
    assert found["failed"] == []


@pytest.mark.slow
def test_numbers_do_not_depend_on_run_or_side(sets: Path, metric_weights: Path, whole: dict[str, Any]):
    again = evaluate(sets / "real", sets / "fake", EvaluateOptions(QUICK, metric_weights))
    turned = evaluate(sets / "fake", sets / "real", EvaluateOptions(QUICK, metric_weights))
    for part in ("metrics", "intervals", "floors"):
        assert again[part]["vfid"] == whole[part]["vfid"]
    for metric in QUICK.metrics:
        assert turned["metrics"][metric] == pytest.approx(again["metrics"][metric], rel=1e-6)


def test_frames_as_pictures_are_the_same_clip(sets: Path, metric_weights: Path, tmp_path: Path):
    for path in sorted((sets / "fake").iterdir()):
        write_frames(tmp_path / "fake" / path.stem, video.read(path), first=8)  # frame-8, frame-9, frame-10
    as_video = evaluate(sets / "real", sets / "fake", EvaluateOptions(QUICK, metric_weights))
    as_frames = evaluate(sets / "real", tmp_path / "fake", EvaluateOptions(QUICK, metric_weights))
    # Windows depend on the clip's key, and paired metrics on the frames: all as with the videos.
    assert as_frames["metrics"] == pytest.approx(as_video["metrics"], rel=1e-6)


def broken(folder: Path) -> dict[str, Callable[[], object]]:
    """Whatever else stands in folders of clips, and what the line about it must say."""

    def cut(path: Path) -> None:
        write_clip(path, named_clip("cut", (60, 48, 32)))
        path.write_bytes(path.read_bytes()[:-2000])

    def uneven(path: Path) -> None:
        write_frames(path, named_clip("uneven"))
        Image.fromarray(named_clip("uneven")[0, :40]).save(path / "frame-7.png")

    def gap(path: Path) -> None:
        write_frames(path, named_clip("gap"))
        (path / "frame-9.png").unlink()

    def stray(path: Path) -> None:
        write_frames(path, named_clip("stray"))
        shutil.copy(path / "frame-1.png", path / "poster.png")

    def twice(path: Path) -> None:
        write_frames(path, named_clip("twice"))
        shutil.copy(path / "frame-3.png", path / "frame-03.png")

    def write_bad(path: Path) -> None:
        (write_frames(path, named_clip("bad")) / "frame-3.png").write_bytes(b"\x89PNG")

    return {
        "empty.mp4|0 bytes": (folder / "empty.mp4").touch,
        "text.mp4|not a video": lambda: (folder / "text.mp4").write_text("hello"),
        "cut off.mp4|cut off.mp4: is": lambda: cut(folder / "cut off.mp4"),
        "short.mp4|5 frames": lambda: write_clip(folder / "short.mp4", named_clip("short", (5, 48, 32))),
        "large.mp4|96x64, but the others are 48x32": lambda: write_clip(
            folder / "large.mp4", named_clip("l", (16, 96, 64))
        ),
        "gap|missing frame 9": lambda: gap(folder / "gap"),
        "uneven|frame 6 is": lambda: uneven(folder / "uneven"),
        "stray|poster.png has no frame number": lambda: stray(folder / "stray"),
        "twice|two frames have the number 3": lambda: twice(folder / "twice"),
        "bad png|": lambda: write_bad(folder / "bad png"),
    }


@pytest.mark.parametrize("which", ["fake", "real"])
def test_what_cannot_be_measured_is_named_and_changes_no_number(
    sets: Path, metric_weights: Path, tmp_path: Path, which: str
):
    folders = {name: shutil.copytree(sets / name, tmp_path / name) for name in ("real", "fake")}
    expected = evaluate(folders["real"], folders["fake"], EvaluateOptions(QUICK, metric_weights))["metrics"]
    lines = broken(folders[which])
    for make in lines.values():
        make()
    found = evaluate(folders["real"], folders["fake"], EvaluateOptions(QUICK, metric_weights))
    assert found["metrics"] == expected
    reasons = {failure["name"]: failure["reason"] for failure in found["failed"]}
    assert sorted(reasons) == sorted(line.split("|")[0] for line in lines)
    for line in lines:
        name, words = line.split("|")
        assert name in reasons[name] and words in reasons[name] and "\n" not in reasons[name]
    assert all(failure["set"] == which for failure in found["failed"])


@pytest.mark.slow
def test_short_clips_take_part_where_they_can(sets: Path, metric_weights: Path, tmp_path: Path):
    fake = shutil.copytree(sets / "fake", tmp_path / "fake")
    short = video.read(sets / "fake" / "clip 0.mp4")[:7]
    (fake / "clip 0.mp4").unlink()
    write_frames(fake / "clip 0", short)
    protocol = replace(ALL, metrics=("vfid", "rfd", "is", "psnr"))
    found = evaluate(sets / "real", fake, EvaluateOptions(protocol, metric_weights))
    for metric in ("vfid", "rfd"):
        assert found["samples"][metric] == {"real": 5, "fake": 4}
    assert found["samples"]["is"] == {"fake": 5 * 3} and found["samples"]["psnr"] == 5
    lacking = {(failure["name"], failure["metric"]) for failure in found["failed"]}
    assert lacking == {("clip 0", "vfid"), ("clip 0", "rfd")}


@pytest.mark.parametrize("which", ["fake", "real"])
def test_clips_of_other_lengths_are_compared_on_the_frames_that_both_have(tmp_path: Path, which: str):
    clips = {name: named_clip(f"lengths:{name}") for name in ("real", "fake")}
    for name, frames in clips.items():
        write_frames(tmp_path / name / "a", frames[: 9 if name == which else 16])
    protocol = Protocol(metrics=("psnr", "ssim", "silhouette", "drift"), bootstrap=0)
    found = evaluate(tmp_path / "real", tmp_path / "fake", EvaluateOptions(protocol, tmp_path))
    for name, frames in clips.items():
        shutil.rmtree(tmp_path / name / "a")
        write_frames(tmp_path / name / "a", frames[:9])
    cut = evaluate(tmp_path / "real", tmp_path / "fake", EvaluateOptions(protocol, tmp_path))
    for metric in ("psnr", "ssim", "silhouette_overlap", "garment_error", "width_correlation"):
        assert found["metrics"][metric] == pytest.approx(cut["metrics"][metric], rel=1e-6), metric
    assert found["clips"][0]["compared_frames"] == 9 and "both clips have" in found["protocol"]["paired"]
    assert any("compared frame by frame over the 9 leading frames" in line for line in found["warnings"])
    assert found["failed"] == [] and not any("leading frames" in line for line in cut["warnings"])


@pytest.mark.parametrize("count", [0, 1], ids=["no-clip", "one-clip"])
def test_too_few_clips(sets: Path, metric_weights: Path, tmp_path: Path, count: int):
    fake = tmp_path / "fake"
    fake.mkdir()
    (fake / "notes.txt").write_text("no clip")
    write_set(fake, "fake", count)
    if not count:
        with pytest.raises(FashionFlowError, match="no clips found"):
            evaluate(sets / "real", fake, EvaluateOptions(QUICK, metric_weights))
        return
    found = evaluate(sets / "real", fake, EvaluateOptions(QUICK, metric_weights))
    assert found["metrics"]["vfid"] is None and found["metrics"]["psnr"] is not None
    assert [f["reason"] for f in found["failed"]] == ["vfid needs at least 2 fake clips, not 1"]


def test_all_broken_is_an_error(sets: Path, metric_weights: Path, tmp_path: Path):
    (tmp_path / "x.mp4").write_text("no video")
    with pytest.raises(FashionFlowError, match=r"no usable clip of 1: .*x\.mp4"):
        evaluate(sets / "real", tmp_path, EvaluateOptions(QUICK, metric_weights))


def test_sizes_that_all_differ(sets: Path, metric_weights: Path, tmp_path: Path):
    write_set(tmp_path, "real", 3, (16, 64, 48))
    with pytest.raises(FashionFlowError) as error:
        evaluate(tmp_path, sets / "fake", EvaluateOptions(QUICK, metric_weights))
    assert "64x48" in error.value.message and "resize=48x32" in (error.value.hint or "")
    found = evaluate(tmp_path, sets / "fake", EvaluateOptions(replace(QUICK, resize=(48, 32)), metric_weights))
    assert found["failed"] == [] and found["samples"]["vfid"] == {"real": 3, "fake": 5}


def test_windows_are_those_of_everybody(tmp_path: Path):
    """Long clips are cut at a place that seed and name give, wherever the folder lies."""
    frames = named_clip("long", (50, 32, 32))
    for place in ("here", "there"):
        write_frames(tmp_path / place / "a clip", frames)
        write_frames(tmp_path / place / "b clip", frames)
    found = {
        (place, name, seed): read_clip(look(source), 20, seed)
        for place in ("here", "there")
        for source in find_clips(tmp_path / place)
        for name in [source.name]
        for seed in (0, 1)
    }
    for (_, name, seed), clip in found.items():
        assert clip.start == window_start(name, 50, 20, seed) == found["here", name, seed].start
        assert np.array_equal(clip.window, frames[clip.start : clip.start + 20])
        assert np.array_equal(clip.head, frames[:20])
    assert len({clip.start for clip in found.values()}) > 2


@pytest.mark.parametrize("choice", ["random", "first", "middle", "last", "spread"])
def test_fvd_windows(choice: str):
    protocol = Protocol(fvd_window=choice)
    indices = protocol.fvd_indices(70, "name")
    assert len(set(indices)) == 16 and indices[0] >= 0 and indices[-1] <= 69
    wanted = {"first": (0, 15), "middle": (27, 42), "last": (54, 69), "spread": (0, 69)}
    assert choice == "random" or (indices[0], indices[-1]) == wanted[choice]
    assert list(protocol.fvd_indices(16, "name")) == list(range(16))
    with pytest.raises(ValueError, match="15 frames"):
        protocol.fvd_indices(15, "name")


def test_without_weights(sets: Path, tmp_path: Path):
    with pytest.raises(FashionFlowError) as error:
        evaluate(sets / "real", sets / "fake", EvaluateOptions(QUICK, tmp_path))
    assert "rgb_imagenet.pt" in error.value.message
    assert "https://" in (error.value.hint or "") and "models pull metrics" in (error.value.hint or "")
    found = evaluate(sets / "real", sets / "fake", EvaluateOptions(Protocol(metrics=("psnr", "drift")), tmp_path))
    assert found["metrics"]["psnr"] > 0 and found["protocol"]["weights"] == {}


def test_what_can_be_computed_is_computed_and_each_reason_is_named_once(
    sets: Path, metric_weights: Path, tmp_path: Path
):
    """By default and without an error; each reason for an omission is named once."""
    quick = Protocol(bootstrap=0, clip_frames=5, inception_frames=1)
    for which in ("real", "fake"):
        for number in range(2):
            write_frames(tmp_path / which / str(number), video.read(sets / which / f"clip {number}.mp4"))
    found = evaluate(None, tmp_path / "fake", EvaluateOptions(quick, tmp_path))
    omitted = {tuple(omission["metrics"]): omission for omission in found["omitted"]}
    assert "real" in omitted["fvd", "vfid", "fid", "rfd", "psnr", "ssim", "silhouette"]["hint"]
    assert "weights-inception" in omitted["is",]["reason"] and "encoder" in omitted["garment",]["hint"]
    everything = set(METRICS) - {name for names in omitted for name in names}
    assert set(found["protocol"]["metrics"]) == everything >= {"drift", "skin", "pattern"} and found["failed"] == []
    names = [name for omission in found["omitted"] for name in omission["metrics"]]
    assert len(names) == len(set(names))
    one = evaluate(tmp_path / "real" / "0", tmp_path / "fake" / "0", EvaluateOptions(quick, tmp_path))
    assert one["omitted"][0]["metrics"] == ["fvd", "vfid", "fid", "rfd"] and one["metrics"]["psnr"] > 0
    assert "2 clips" in one["omitted"][0]["reason"] and one["failed"] == []

    encoder = write_encoder(metric_weights / "encoder")
    try:
        found = evaluate(tmp_path / "real", tmp_path / "fake", EvaluateOptions(quick, metric_weights))
    finally:
        shutil.rmtree(encoder)
    assert [omission["metrics"] for omission in found["omitted"]] == [["fvd", "vfid", "rfd"]]
    assert "need 16 frames, not 5" in found["omitted"][0]["reason"]
    assert -1 <= found["metrics"]["garment_similarity"] <= 1 and found["protocol"]["encoder"]["kind"] == "dinov2"
    assert found["metrics"]["fid"] > 0 and found["metrics"]["warping_error"] > 0


def test_a_missing_folder_comes_before_missing_weights(sets: Path, tmp_path: Path):
    options = EvaluateOptions(QUICK, tmp_path)
    for real, fake in ((sets / "real", tmp_path / "nowhere"), (tmp_path / "nowhere", sets / "fake")):
        with pytest.raises(FashionFlowError, match="nowhere"):
            evaluate(real, fake, options)
    for more in (
        {"photos": tmp_path / "nowhere"},
        {"weights": tmp_path / "nowhere"},
        {"encoder": tmp_path / "nowhere"},
    ):
        with pytest.raises(FashionFlowError, match="nowhere: not a folder"):
            evaluate(sets / "real", sets / "fake", replace(options, **more))


def test_a_clip_that_does_not_begin_with_its_photo_is_judged_against_it(tmp_path: Path):
    """As those of models that the photo steers by its context alone: another figure keeps no pattern and colour."""
    truth, other = (render_clip(seed, 6, 96, 72, supersample=1).frames for seed in (DOTS, STRIPES))
    write_frames(tmp_path / "real" / "a", truth)
    write_frames(tmp_path / "same" / "a", truth[:1].repeat(6, 0))
    write_frames(tmp_path / "other" / "a", other[:1].repeat(6, 0))
    protocol = Protocol(metrics=("pattern", "drift", "skin", "silhouette"), bootstrap=0)
    found = {
        name: evaluate(tmp_path / "real", tmp_path / name, EvaluateOptions(protocol, tmp_path))["metrics"]
        for name in ("same", "other", "real")
    }
    assert found["same"]["pattern_kept"] == pytest.approx(1, abs=0.01) and found["other"]["garment_drift"] == 0
    assert found["other"]["pattern_kept"] < 0.7
    assert found["other"]["garment_error"] > found["same"]["garment_error"] + 5
    assert found["other"]["silhouette_overlap"] < found["same"]["silhouette_overlap"] < 1
    assert found["real"]["silhouette_overlap"] == 1 and found["real"]["garment_error"] == 0


def test_the_gap_between_skin_tones(tmp_path: Path):
    """Groups are those of the real clips; the gap is 0 for one drift of all, and grows with that of one group."""
    gaps = []
    for number, fade in enumerate((0.0, 0.15, 0.3)):
        for seed in range(4):
            frames = render_clip(seed, 4, 160, 128, supersample=1, frame_indices=[0] * 4).frames
            write_frames(tmp_path / "real" / str(number) / str(seed), frames)
            faded = frames.copy()
            if seed % 2:
                faded[1:] = ((1 - fade) * frames[1:] + fade * 160).astype(np.uint8)
            write_frames(tmp_path / "fake" / str(number) / str(seed), faded)
        folders = [tmp_path / which / str(number) for which in ("real", "fake")]
        found = evaluate(*folders, EvaluateOptions(Protocol(metrics=("skin",), bootstrap=20), tmp_path))
        assert sum(group["clips"] for group in found["skin_groups"].values()) == found["samples"]["skin_gap"]
        gaps.append(found["metrics"]["skin_gap"])
        means = [group["skin_drift"] for group in found["skin_groups"].values()]
        assert gaps[-1] == pytest.approx(max(means) - min(means))
    assert gaps[0] == 0 and gaps == sorted(gaps) and gaps[1] > 0


def test_without_real_clips(sets: Path, tmp_path: Path):
    found = evaluate(None, sets / "fake", EvaluateOptions(Protocol(metrics=("drift",)), tmp_path))
    assert found["real"] is None and found["metrics"]["motion"] > 0 and found["samples"]["pairs"] == 0
    with pytest.raises(UsageError, match="vfid, psnr, ssim need real clips"):
        evaluate(None, sets / "fake", EvaluateOptions(QUICK, tmp_path))


def test_names_pair_clips(tmp_path: Path):
    """Whatever the folder and the container; two clips of one name are not guessed between; two files are a pair."""
    clip = named_clip("pair")
    write_clip(tmp_path / "real" / "a b" / "ü.mp4", clip)
    write_clip(tmp_path / "fake" / "a b" / "ü.webm", clip)
    write_clip(tmp_path / "fake" / "alone.mp4", clip)
    paired = Protocol(metrics=("psnr", "ssim"), bootstrap=0)
    found = evaluate(tmp_path / "real", tmp_path / "fake", EvaluateOptions(paired, tmp_path))
    assert found["samples"]["pairs"] == 1 and found["metrics"]["ssim"] > 0.8
    write_clip(tmp_path / "fake" / "a b" / "ü.mp4", clip)
    found = evaluate(tmp_path / "real", tmp_path / "fake", EvaluateOptions(paired, tmp_path))
    assert found["metrics"]["psnr"] is None
    assert "several clips have this name" in found["failed"][0]["reason"]
    found = evaluate(tmp_path / "real/a b/ü.mp4", tmp_path / "fake/alone.mp4", EvaluateOptions(paired, tmp_path))
    assert found["metrics"]["ssim"] == 1


def test_turned_clips_are_measured_upright_and_squeezed_ones_refused(tmp_path: Path):
    times = list(range(0, 400, 40))
    (tmp_path / "fake").mkdir()
    muxed(tmp_path / "fake" / "lying.mp4", times, turn=90)
    muxed(tmp_path / "fake" / "squeezed.mp4", times, aspect=Fraction(2, 1))
    found = evaluate(None, tmp_path / "fake", EvaluateOptions(Protocol(metrics=("drift",)), tmp_path))
    assert [clip["name"] for clip in found["clips"]] == ["lying.mp4"]
    reasons = {failure["name"]: failure["reason"] for failure in found["failed"]}
    assert list(reasons) == ["squeezed.mp4"] and "not square" in reasons["squeezed.mp4"]


def test_sets_without_a_name_in_common(tmp_path: Path):
    """As usual for distances: no failure, a remark."""
    write_clip(tmp_path / "real" / "a.mp4", named_clip("a"))
    write_clip(tmp_path / "fake" / "b.mp4", named_clip("b"))
    found = evaluate(tmp_path / "real", tmp_path / "fake", EvaluateOptions(Protocol(metrics=("psnr",)), tmp_path))
    assert found["metrics"]["psnr"] is None and found["failed"] == [] and "same name" in found["warnings"][0]


def test_a_folder_inside_the_other(sets: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="inside"):
        evaluate(sets, sets / "fake", EvaluateOptions(Protocol(metrics=("psnr",)), tmp_path))
    with pytest.raises(UsageError, match="inside"):
        evaluate(sets / "fake", sets, EvaluateOptions(Protocol(metrics=("psnr",)), tmp_path))


def test_tiny_and_broken_photos(tmp_path: Path):
    write_clip(tmp_path / "fake" / "a.mp4", named_clip("a", (4, 48, 32)))
    write_clip(tmp_path / "fake" / "tiny.mp4", named_clip("a", (4, 16, 8)))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("no photo")
    found = evaluate(
        None, tmp_path / "fake", EvaluateOptions(Protocol(metrics=("drift",)), tmp_path, photos=tmp_path / "photos")
    )
    reasons = [failure["reason"] for failure in found["failed"]]
    assert len(reasons) == 2 and "tiny.mp4: 16x8 is too small" in reasons[0] and "a.jpg" in reasons[1]


def test_rates_that_differ_are_remarked(tmp_path: Path):
    for name, rate in (("real", 30), ("fake", 25)):
        write_clip(tmp_path / name / "a.mp4", named_clip("a"), rate)
    found = evaluate(tmp_path / "real", tmp_path / "fake", EvaluateOptions(Protocol(metrics=("psnr",)), tmp_path))
    assert any("real 30, fake 25" in line for line in found["warnings"])


def test_photos_of_clips(tmp_path: Path):
    frames = named_clip("photo", (6, 64, 48))
    write_frames(tmp_path / "fake" / "dress02", frames)
    (tmp_path / "photos").mkdir()
    Image.fromarray(frames[0]).save(tmp_path / "photos" / "dress.png")
    found = evaluate(
        None, tmp_path / "fake", EvaluateOptions(Protocol(metrics=("drift",)), tmp_path, photos=tmp_path / "photos")
    )
    assert found["metrics"]["first_frame_ssim"] == 1
    without = evaluate(None, tmp_path / "fake", EvaluateOptions(Protocol(metrics=("drift",)), tmp_path))
    assert "first_frame_ssim" not in without["metrics"]


def test_links_in_circles_and_hidden_files(tmp_path: Path):
    write_clip(tmp_path / "set" / "a.mp4", named_clip("a"))
    shutil.copy(tmp_path / "set" / "a.mp4", tmp_path / "set" / ".hidden.mp4")
    (tmp_path / "set" / "round").symlink_to(tmp_path / "set")
    Image.fromarray(named_clip("a")[0]).save(tmp_path / "set" / "a-poster.png")
    assert [source.name for source in find_clips(tmp_path / "set")] == ["a.mp4"]


@pytest.mark.parametrize(
    "choices",
    [
        {"metrics": ("fvd", "lpips")},
        {"metrics": ()},
        {"fvd_window": "best"},
        {"bn_mode": "on"},
        {"clip_frames": 2},
        {"clip_frames": 10, "metrics": ("rfd",)},
        {"is_splits": 0},
        {"bootstrap": -1},
        {"fit": "squeeze"},
    ],
    ids=lambda choices: next(iter(choices)),
)
def test_protocols_that_cannot_be_meant(choices: dict[str, Any]):
    with pytest.raises(UsageError):
        Protocol(**choices)
