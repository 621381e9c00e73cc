"""Motion models at the command line and in catalogues, evaluation, bench and LoRA."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from catalogues import last
from command import assert_refused, run
from PIL import Image
from tiny_motion import build_tiny_motion_model, paper_doll

from fashionflow_benchmarks import suites
from fashionflow_benchmarks.model_under_test import BenchRequest
from fashionflow_core import video
from fashionflow_core.catalogue import run as session
from fashionflow_core.catalogue.estimate import estimate
from fashionflow_core.catalogue.inputs import read_inputs
from fashionflow_core.catalogue.jobs import RunSpec
from fashionflow_core.catalogue.ledger import Watcher
from fashionflow_core.catalogue.planner import Rules
from fashionflow_core.config import GenerateSettings
from fashionflow_core.errors import FashionFlowError, UsageError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_motion_model(tmp_path_factory.mktemp("motion") / "model")


def photos(folder: Path, count: int = 2) -> Path:
    """A folder of dolls of different sizes, and a picture of noise."""
    folder.mkdir()
    for number in range(count):
        Image.fromarray(paper_doll(120 + 40 * number, 100 + 20 * number)[0]).save(folder / f"doll-{number}.png")
    noise = np.random.default_rng(0).integers(0, 255, (64, 48, 3), np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    return folder


def catalogue(model: Path, source: Path, out: Path, rules: Rules | None = None, **settings: object) -> session.Request:
    work = RunSpec(model=str(model), out=str(out), scratch="", settings=GenerateSettings(**settings))  # type: ignore[arg-type]
    entries = read_inputs([str(source)], out, lambda: b"").entries
    return session.Request(entries, work, devices=("cpu",), rules=rules or Rules())


def test_one_photo(model: Path, tmp_path: Path) -> None:
    photo, mask = paper_doll()
    Image.fromarray(photo).save(tmp_path / "doll.png")
    Image.fromarray((mask * 255).astype(np.uint8)).save(tmp_path / "mask.png")
    command = ("generate", "doll.png", "--model", model, "--matte", "mask.png", "--loop", "--size", "80x64")
    done = run(*command, "-o", "doll.mp4", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert (made["frames"], made["height"], made["width"]) == (12, 80, 64)
    assert made["motion"] == {"kind": "turn", "turn": 25.0, "loop": True, "longest_side": 1280}
    assert video.read_metadata(tmp_path / "doll.mp4")["fashionflow_loop"] == "true"
    wrong = run("generate", "doll.png", "--model", model, "--matte", "doll.png", "--size", "huge", cwd=tmp_path)
    assert_refused(wrong, 2, "--size")
    Image.fromarray((mask * 255).astype(np.uint8)[:-2]).save(tmp_path / "short.png")
    wrong = run("generate", "doll.png", "--model", model, "--matte", "short.png", "-o", "new.mp4", cwd=tmp_path)
    assert_refused(wrong, 2, "--matte")


@pytest.mark.slow
def test_a_folder(model: Path, tmp_path: Path) -> None:
    source, out = photos(tmp_path / "photos"), tmp_path / "out"
    summary = session.run(catalogue(model, source, out))
    assert (summary.made, summary.failed) == (3, 0)
    records = last(out)
    assert {name: (record["height"], record["width"]) for name, record in records.items()} == {
        "doll-0": (120, 100),
        "doll-1": (160, 120),
        "noise": (64, 48),
    }
    assert any("camera" in line for line in records["noise"]["warnings"])
    assert all(len(video.read(out / record["output"])) == 12 for record in records.values())
    assert len({record["seed"] for record in records.values()}) == 3  # else all figures would move alike
    assert all({"garment_drift", "motion", "first_psnr"} <= record["scores"].keys() for record in records.values())
    again = session.run(catalogue(model, source, out))
    assert (again.made, again.kept) == (0, 3)


@pytest.mark.slow
def test_variations_differ_and_say_how_much(model: Path, tmp_path: Path) -> None:
    photo, _ = paper_doll()
    (tmp_path / "photos").mkdir()
    Image.fromarray(photo).save(tmp_path / "photos" / "doll.png")
    request = replace(catalogue(model, tmp_path / "photos", tmp_path / "out", motion="simple"), variations=3)
    assert session.run(request).made == 3
    records = sorted(last(tmp_path / "out").values(), key=lambda record: record["output"])
    distances = [record.get("motion_distance") for record in records]
    assert distances.count(None) == 1 and min(found for found in distances if found is not None) > 0.05


@pytest.mark.slow
def test_a_new_default_model_remakes_nothing_silently(model: Path, tmp_path: Path) -> None:
    source, out = photos(tmp_path / "photos", count=1), tmp_path / "out"
    session.run(catalogue(model, source, out, motion="simple"))
    other = build_tiny_motion_model(tmp_path / "newer", seed=1, name="newer")
    said: list[str] = []
    watcher = Watcher(said=said.append)

    unnamed = catalogue(other, source, out, Rules(keep_other_models=True), motion="simple")
    assert estimate(unnamed).to_do == 0
    summary = session.run(unnamed, watcher)
    assert (summary.made, summary.kept) == (0, 2)
    assert said == ["2 finished videos were made with tiny-motion and are kept; to remake them with newer: model=newer"]

    named = catalogue(other, source, out, motion="simple")
    plan = estimate(named)
    assert plan.to_do == 2 and "remade with newer" in plan.notes[0] and plan.seconds
    summary = session.run(named, watcher)
    assert summary.made == 2 and any("remade with newer" in line for line in said)
    assert {record["model"] for record in last(out).values()} == {"newer"}


@pytest.mark.slow
def test_evaluation_generates_at_one_size(model: Path, tmp_path: Path) -> None:
    from fashionflow_core.evaluate.generated import generate

    source = photos(tmp_path / "photos", count=1)
    made = generate(str(model), source, tmp_path / "made", GenerateSettings(motion="simple"), devices=("cpu",))
    assert made.size == (64, 48) and not made.failed and len(made.clips) == 2
    assert all(max(video.probe(clip.path).height, video.probe(clip.path).width) <= 64 for clip in made.clips)


@pytest.mark.slow
def test_bench_shows_the_stages(model: Path) -> None:
    request = BenchRequest(model=str(model), device="cpu", steps=1, repeats=1)
    (result,) = suites.run(["video"], request, lambda name: None)
    assert {"photo to mp4", "matte", "denoise", "render", "write"} <= result["results"].keys()
    assert result["model"]["parameters"]["parser"] > 0
    with pytest.raises(UsageError, match="only the suite video"):
        list(suites.run(["memory"], request, lambda name: None))


def test_a_lora_of_another_model_is_refused(model: Path, tmp_path: Path) -> None:
    from tiny import build_tiny_model

    from fashionflow_core import pipeline
    from fashionflow_core.runtimes import open_weights
    from fashionflow_core.runtimes.lora import add_lora, save_lora

    torch = pytest.importorskip("torch")
    for name, folder in (("own", model), ("other", build_tiny_model(tmp_path / "tiny", levels=3, height=64, width=64))):
        unet = open_weights(folder, torch.device("cpu"), torch.float32).unet
        add_lora(unet, 2, 4.0, ("to_q", "to_k"))
        save_lora(unet, tmp_path / name, name)
    photo, mask = paper_doll(80, 64)
    with_lora = pipeline.load(model, device="cpu", lora=tmp_path / "own")
    assert with_lora.generate(photo, frames=2, matte=mask).count == 2
    with pytest.raises(FashionFlowError, match="does not match this U-Net"):
        pipeline.load(model, device="cpu", lora=tmp_path / "other")


def test_low_memory_is_refused(model: Path) -> None:
    from fashionflow_core import pipeline

    with pytest.raises(UsageError, match="low_memory"):
        pipeline.load(model, device="cpu", low_memory=True)


def test_models_show(model: Path, tmp_path: Path) -> None:
    from fashionflow_core.store import registry

    shutil.copytree(model, tmp_path / "copy")
    shown = registry.show(str(tmp_path / "copy"))
    assert shown["config"]["latents"] == "motion"
    assert {"unet", "adapter", "image_encoder", "parser"} <= shown["parameters"].keys()
