"""`fashionflow evaluate`, `ablation` and `compare` as their users meet them."""

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from clip_sets import named_clip, write_clip, write_set
from command import COMMAND, assert_refused, environment, run
from engine_folders import tiny_engines, tiny_source
from PIL import Image
from tiny import build_tiny_model

from fashionflow_core import video
from fashionflow_core.config import GenerateSettings
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.evaluate import report
from fashionflow_core.evaluate.generated import evaluate_model
from fashionflow_core.evaluate.protocol import EvaluateOptions, Protocol

QUICK = ("--metrics", "vfid,psnr,ssim", "--bootstrap", "10")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `real` and `my fakes` of four clips each. Not to be changed."""
    folder = tmp_path_factory.mktemp("sets")
    write_set(folder / "real", "real", 4)
    write_set(folder / "my fakes", "fake", 4)
    return folder


def test_json_table_and_report(sets: Path, metric_weights: Path, tmp_path: Path):
    arguments = ("evaluate", "--real", sets / "real", "--fake", sets / "my fakes", "--weights-dir", metric_weights)
    done = run(*arguments, *QUICK, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert {"metrics", "protocol", "samples", "failed", "intervals", "floors"} <= set(found)
    assert found["metrics"]["vfid"] > 0 and found["failed"] == []
    assert "warning: the weights of i3d" in done.stderr

    done = run(*arguments, *QUICK, "--markdown", "--paper", "-q", "-o", "a.json", "--report", "r", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert json.loads((tmp_path / "a.json").read_text())["metrics"] == found["metrics"]
    assert "| VFID I3D ↓ |" in done.stdout and "1659.546 | 0.867 | the paper's |" in done.stdout
    assert "| my fakes | not computed | not computed |" in done.stdout and "measured here, 4 clips |" in done.stdout
    names = {path.name for path in (tmp_path / "r").iterdir()}
    pictures = {"clip-scores.png", "distances.png", "clips.png"}
    assert names == {"evaluation.json", "evaluation.md", "report.html", *pictures}
    with Image.open(tmp_path / "r" / "clips.png") as picture:
        assert picture.height > 8 * 140
    page = (tmp_path / "r" / "evaluation.md").read_text()
    assert "(clips.png)" in page and "garment-drift.png" not in page

    assert_refused(run(*arguments, *QUICK, "-o", "a.json", cwd=tmp_path), 1, "a.json", "already exists")
    assert_refused(run(*arguments, *QUICK, "--report", "r", cwd=tmp_path), 1, "r", "not empty")


def test_failures_are_lines_and_a_code(sets: Path, metric_weights: Path, tmp_path: Path):
    fake = shutil.copytree(sets / "my fakes", tmp_path / "fake")
    (fake / "broken one.mp4").write_text("no video")
    done = run(
        *("evaluate", "--real", sets / "real", "--fake", fake, "--weights-dir", metric_weights, *QUICK),
        cwd=tmp_path,
    )
    assert done.returncode == 3
    assert "broken one.mp4: not a video" in done.stdout
    lines = done.stderr.splitlines()
    assert any(line.startswith("failed: ") and "broken one.mp4" in line for line in lines)
    assert lines[-2].startswith("error: 1 measurements failed")


@pytest.mark.skipif(sys.platform == "darwin", reason="file names are UTF-8 there")
def test_names_that_are_no_text(tmp_path: Path):
    fake = tmp_path / "fake"
    write_clip(fake / "a.mp4", named_clip("a", (4, 48, 32)))
    odd = os.fsdecode(b"caf\xe9 | 1.mp4")
    shutil.copy(fake / "a.mp4", fake / odd)
    (fake / f"broken {odd}").write_text("no video")
    command = ("evaluate", "--fake", "fake", "--metrics", "drift", "--report", "report")
    done = subprocess.run([*COMMAND, *command], cwd=tmp_path, env=environment(), capture_output=True, check=False)
    assert done.returncode == 3, done.stderr
    assert b"caf\xe9" in done.stdout and b"caf\\udce9" in done.stderr
    found = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    assert [clip["name"] for clip in found["clips"]] == ["a.mp4", odd]
    assert "caf\\udce9" in (tmp_path / "report" / "evaluation.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--fake", "fake", "--metrics", "is"), 1, "weights-inception-2015-12-05-6726825d.pth"),
        (("--fake", "nowhere", "--metrics", "is"), 1, "nowhere"),
        (("--real", "nowhere", "--fake", "fake", "--metrics", "fvd"), 1, "nowhere"),
        (("--fake", "fake", "--metrics", "garment"), 1, "no image encoder"),
        (("--fake", "fake", "--encoder", "nowhere"), 1, "nowhere"),
        (("--fake", "nowhere", "--metrics", "drift"), 1, "nowhere"),
        (("--real", "fake"), 2, "--fake"),
        (("--fake", "fake", "--model", "mini-latent", "--data", "fake"), 2, "one of both"),
        (("--model", "mini-latent"), 2, "--data"),
        (("--fake", "fake", "--metrics", "fvd", "--weights-dir", "."), 2, "need real clips"),
        (("--fake", "fake", "--metrics", "fdv"), 2, "unknown: 'fdv'"),
        (("--fake", "fake", "--metrics", ","), 2, "names no metric"),
        (("--fake", "fake", "--metrics", "drift", "--json", "--markdown"), 2, "--markdown"),
        (("--fake", "fake", "--metrics", "drift", "-o", "no/where.json"), 1, "does not exist"),
        (("--fake", "fake", "--metrics", "drift", "--photos", "nowhere"), 1, "nowhere"),
        (("--fake", "fake", "--metrics", "drift", "--resize", "big"), 2, "HEIGHTxWIDTH"),
    ],
    ids=lambda value: "-".join(value).replace("/", "") if isinstance(value, tuple) else None,
)
def test_refusals(tmp_path: Path, arguments: tuple[str, ...], code: int, words: str):
    write_clip(tmp_path / "fake" / "a.mp4", named_clip("a", (3, 48, 32)))
    home = {"FASHIONFLOW_HOME": str(tmp_path / "home")}
    if words == "need real clips":  # what is missing first is named first
        for name in ("rgb_imagenet.pt",):
            (tmp_path / name).touch()
    assert_refused(run("evaluate", *arguments, cwd=tmp_path, env=home), code, words)


def test_what_is_missing_is_said_once(tmp_path: Path):
    write_clip(tmp_path / "fake" / "a.mp4", named_clip("a", (4, 48, 32)))
    done = run("evaluate", "--fake", "fake", cwd=tmp_path, env={"FASHIONFLOW_HOME": str(tmp_path / "home")})
    assert done.returncode == 0, done.stderr
    for words in ("need real clips; pass their folder: --real DIR", "fashionflow models pull metrics", "--encoder DIR"):
        assert done.stdout.count(words) == 1 and words not in done.stderr
    assert "pattern kept" in done.stdout and "garment drift" in done.stdout


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::fashionflow_core.errors.FashionFlowWarning")
def test_generates_first_and_goes_on(metric_weights: Path, tmp_path: Path):
    model = build_tiny_model(tmp_path / "tiny", frames=16)
    write_set(tmp_path / "data", "real", 3, (16, 64, 48))
    arguments = ("evaluate", "--model", model, "--data", "data", "--generated", "made", "--weights-dir", metric_weights)
    first = run(*arguments, *QUICK, "--json", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    found = json.loads(first.stdout)
    assert found["samples"]["real"] == found["samples"]["fake"] == found["samples"]["pairs"] == 3
    assert found["protocol"]["resize"] == [64, 48] and found["protocol"]["generated"]["model"] == "tiny"
    made = {path.name: path.read_bytes() for path in (tmp_path / "made").glob("*.mp4")}
    assert sorted(made) == ["clip 0.mp4", "clip 1.mp4", "clip 2.mp4"]
    lines = [json.loads(line) for line in (tmp_path / "made" / "manifest.jsonl").read_text().splitlines()]
    assert len({line["seed"] for line in lines}) == 3  # noise of their own, or the set would be too much alike

    def again(**changes: Any) -> dict[str, Any]:
        protocol = Protocol(metrics=("vfid", "psnr", "ssim"), bootstrap=10)
        settings = GenerateSettings(**changes)
        options = EvaluateOptions(protocol, metric_weights, device="cpu")
        return evaluate_model(str(model), tmp_path / "data", tmp_path / "made", settings, options)

    (tmp_path / "made" / "clip 1.mp4").unlink()  # as if it had been stopped
    kept = (tmp_path / "made" / "clip 0.mp4").stat().st_mtime_ns
    (tmp_path / "made").rename(tmp_path / "elsewhere")  # a folder may be moved, and seen from another one
    (tmp_path / "made").symlink_to("elsewhere")
    assert again()["metrics"] == pytest.approx(found["metrics"])
    assert (tmp_path / "made" / "clip 1.mp4").read_bytes() == made["clip 1.mp4"]
    assert (tmp_path / "made" / "clip 0.mp4").stat().st_mtime_ns == kept

    with pytest.raises(FashionFlowError, match="other settings"):
        again(steps=3)
    (tmp_path / "data" / "broken.mp4").write_text("no video")
    # A video of a clip that is no longer in the test set is not of this evaluation.
    shutil.copy(tmp_path / "made" / "clip 0.mp4", tmp_path / "made" / "of another set.mp4")
    third = again()
    assert third["metrics"] == pytest.approx(found["metrics"])
    assert {failure["set"] for failure in third["failed"]} == {"real", "fake"}
    assert all("broken.mp4" in failure["reason"] for failure in third["failed"])


@pytest.mark.slow
def test_engines_are_judged_like_the_model_they_were_made_from(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
):
    pytest.importorskip("onnxruntime")
    engines = tiny_engines(tmp_path_factory, "tiny-fp32", dynamic_frames=(8, 12))
    (tmp_path / "photos").mkdir()
    Image.fromarray(named_clip("coat", (1, 64, 48))[0]).save(tmp_path / "photos" / "coat.png")
    common = ("evaluate", "--data", "photos", "--metrics", "drift", "--frames", "8", "--json")
    scores = {}
    for name, model in {"torch": tiny_source(tmp_path_factory), "onnxruntime": engines}.items():
        done = run(*common, "--model", model, "--backend", name, "--generated", name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        scores[name] = json.loads(done.stdout)["metrics"]
    drift = {name: {k: v for k, v in found.items() if v is not None} for name, found in scores.items()}
    assert drift["torch"] and drift["onnxruntime"] == pytest.approx(drift["torch"], rel=0.02, abs=0.02)
    refused = run(*common, "--model", tiny_source(tmp_path_factory), "--backend", "tensorrt", cwd=tmp_path)
    assert refused.returncode == 1 and "contains PyTorch weights, not engines" in refused.stderr


@pytest.mark.slow
def test_photos_alone(tmp_path: Path):
    model = build_tiny_model(tmp_path / "tiny", frames=4)
    (tmp_path / "photos").mkdir()
    for name in ("red dress.png", "coat.jpg", "my.skirt.webp"):
        Image.fromarray(named_clip(name, (1, 64, 48))[0]).save(tmp_path / "photos" / name)
    done = run(
        *("evaluate", "--model", model, "--data", "photos", "--metrics", "drift", "--generated", "made", "--json"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["real"] is None and found["samples"]["fake"] == 3
    assert found["samples"]["first_frame_ssim"] == 3  # the photos are those of the videos
    assert sorted(path.name for path in (tmp_path / "made").glob("*.mp4")) == [
        "coat.mp4",
        "my.skirt.mp4",
        "red dress.mp4",
    ]


def test_ablation_refuses_all_before_the_first(tmp_path: Path):
    model = build_tiny_model(tmp_path / "tiny", frames=4, conditioning=("both", "local", "global"))
    both = build_tiny_model(tmp_path / "only-both", frames=4)
    models = ("--model-global", model, "--model-local", model, "--model-both", model)
    assert_refused(run("ablation", *models, "--data", "nowhere", cwd=tmp_path), 1, "nowhere")
    wrong = ("--model-global", model, "--model-local", both, "--model-both", both)
    assert_refused(run("ablation", *wrong, "--data", "data", cwd=tmp_path), 2, "conditioning")
    assert not (tmp_path / "ablation").exists()


@pytest.mark.slow
def test_ablation(metric_weights: Path, tmp_path: Path):
    model = build_tiny_model(tmp_path / "tiny", frames=16, conditioning=("both", "local", "global"))
    write_set(tmp_path / "data", "real", 2, (16, 64, 48))
    models = ("--model-global", model, "--model-local", model, "--model-both")
    rest = ("--data", "data", "--weights-dir", metric_weights, "--metrics", "vfid,is", "--inception-frames", "1")
    done = run("ablation", *models, model, *rest, "--markdown", "-o", "ablation.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if "|" in line]
    names = [row[0] for row in rows[2:8]]
    assert names == [name for title in report.TABLE_2 for name in (title, title)]
    assert rows[2][1:] == ["2.891", "1812.462", "0.881", "the paper's"]
    assert rows[3][4] == "measured here, 2 clips"
    found = json.loads((tmp_path / "ablation.json").read_text())
    assert len({found[title]["metrics"]["vfid"] for title in report.TABLE_2}) == 3
    # The same photo steers otherwise: the three videos differ.
    clips = [video.read(tmp_path / "ablation" / kind / "clip 0.mp4") for kind in ("global", "local", "both")]
    assert all((a != b).any() for a, b in pairwise(clips))


@pytest.mark.slow
def test_ablation_of_drawn_clips_with_two_training_seeds(tmp_path: Path):
    """One command on a folder of drawn clips, without weights: every cell is a number with its interval."""
    models = [
        build_tiny_model(tmp_path / f"tiny-{seed}", frames=6, seed=seed, conditioning=("both", "local", "global"))
        for seed in (1, 2)
    ]
    synth = ("data", "synth", "-o", "drawn", "--clips", "4", "--frames", "8", "--size", "64x48", "-q")
    assert run(*synth, cwd=tmp_path).returncode == 0
    named = [part for kind in ("global", "local", "both") for model in models for part in (f"--model-{kind}", model)]
    asked = ("--metrics", "drift,pattern,silhouette,psnr,ssim,skin", "--bootstrap", "10")
    done = run("ablation", *named, "--data", "drawn", *asked, "--report", "report", "--markdown", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if "|" in line]
    cells = {row[0]: row[1:] for row in rows}
    for metric in ("psnr", "ssim", "silhouette_overlap", "pattern_kept", "garment_drift"):
        assert report.label(metric) in cells
    values = next(row[1:4] for row in rows if row[0] == report.label("ssim"))
    assert len(set(values)) == 3 and all(".." in value for value in values)
    assert {path.name for path in (tmp_path / "ablation").iterdir() if path.is_dir()} == {
        *("global", "global-2", "local", "local-2", "both", "both-2"),
    }
    record = json.loads((tmp_path / "report" / "ablation.json").read_text())
    assert len(record) == 6 and all(found["metrics"]["psnr"] > 0 for found in record.values())
    assert all(clip["compared_frames"] == 6 for found in record.values() for clip in found["clips"])


def test_cells_of_markdown_are_kept_apart():
    assert report.table([["a|b", "1"], ["c\nd", "2"]], markdown=True).splitlines()[0] == "| a\\|b | 1 |"
