"""`fashionflow export`, `verify` and `generate --model ENGINES` as processes: `mini-latent`, as every user has it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command import assert_refused, run
from engine_folders import edit, shared, tiny_source
from export_mini import export_mini
from places import ROOT

from fashionflow_core.runtimes.verification import psnr_of_frames
from fashionflow_core.store.engine_folder import FAILED, GRAPHS_OF, Engines
from fashionflow_core.store.folder import INTERPOLATOR
from fashionflow_core.video import read
from fashionflow_export import tensorrt as trt

pytestmark = pytest.mark.slow  # each exports, or starts processes that do

PHOTO = ROOT / "examples" / "dress.jpg"


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`mini-latent` for clips of 8 frames: ONNX files and, where TensorRT-RTX is installed, engines."""
    return shared(tmp_path_factory, "mini-engines", export_mini)


def test_export_says_what_it_found(mini: Path) -> None:
    log = (mini.parent / "export.log").read_text()
    assert "onnxruntime: verified" in log
    assert "generation of 8 frames in 4 steps" in log
    for name in GRAPHS_OF["appearance"]:
        assert f"{name} (real inputs" in log
    generation = Engines.load(mini).runtimes["onnxruntime"].generation
    assert generation["compared"] == 8 and generation["min_psnr"] >= 40


@pytest.mark.skipif(trt.find_spec("tensorrt_rtx") is None, reason="needs the extra trt-rtx")
def test_engines_of_all_networks_are_built(mini: Path) -> None:
    record = Engines.load(mini)
    for name in GRAPHS_OF["appearance"]:
        assert (mini / record.networks[name].files["tensorrt"]).stat().st_size > 1e6
        assert record.runtimes["tensorrt"].build["engines"][name]["layers"] > 10
    if not trt.has_gpu():
        assert record.runtimes["tensorrt"].state == "built_not_run"
        assert "tensorrt: built not run" in (mini.parent / "export.log").read_text()


@pytest.mark.parametrize("backend", [(), ("--backend", "onnxruntime")], ids=["auto", "onnxruntime"])
def test_generate_on_engines_is_the_same_video(mini: Path, tmp_path: Path, backend: tuple[str, ...]) -> None:
    common = ("--steps", "4", "--frames", "8", "--seed", "3", "--device", "cpu", "-q", "--crf", "0")
    ours = run("generate", PHOTO, "--model", mini, "-o", "engines.mp4", *common, *backend, cwd=tmp_path)
    assert ours.returncode == 0, ours.stderr
    reference = run("generate", PHOTO, "--model", "mini-latent", "-o", "torch.mp4", *common, cwd=tmp_path)
    assert reference.returncode == 0, reference.stderr
    frames = [read(tmp_path / name) for name in ("engines.mp4", "torch.mp4")]
    assert len(frames[0]) == 8
    assert min(psnr_of_frames(*frames)) >= 40


def test_verify_again(mini: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(mini, tmp_path / "copy"))
    edit(copy, lambda record: record["runtimes"]["onnxruntime"].update(state="built_not_run"))
    found = run("verify", "copy", "--json", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["runtimes"]["onnxruntime"]["state"] == "verified"
    assert Engines.load(copy).runtimes["onnxruntime"].state == "verified"


def test_models_describe_engines(mini: Path, tmp_path: Path) -> None:
    found = run("models", "show", mini, "--json", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert set(json.loads(found.stdout)["parameters"]) == {*GRAPHS_OF["appearance"], INTERPOLATOR, "total"}
    plan = run("generate", PHOTO, "--model", mini, "--dry-run", "--json", "--device", "cpu", cwd=tmp_path)
    assert plan.returncode == 0, plan.stderr
    assert json.loads(plan.stdout)["frames"] == 8


def test_what_failed_is_refused_everywhere(mini: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(mini, tmp_path / "copy"))

    def fail(record: dict[str, Any]) -> None:
        record["runtimes"]["onnxruntime"].update(state=FAILED, reason="frames at 12 dB")
        record["runtimes"].pop("tensorrt", None)
        for network in record["networks"].values():
            network["files"].pop("tensorrt", None)

    edit(copy, fail)
    generate = ("generate", PHOTO, "--model", "copy", "--device", "cpu", "--steps", "1", "-q")
    assert_refused(run(*generate, cwd=tmp_path), 1, "failed verification (frames at 12 dB)")
    allowed = run(*generate, "--allow-unverified", cwd=tmp_path)
    assert allowed.returncode == 0 and allowed.stdout == "dress.mp4\n"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("export", "--model", "mini-latent"), 2, "no runtime selected"),
        (("export", "--onnx", "--model", "nobody"), 1, "nobody"),
        (("export", "--onnx", "--model", "mini-latent", "--dtype", "bf16"), 2, "bf16"),
        (("export", "--onnx", "--model", "mini-latent", "--dynamic-frames", "8"), 2, "'8' is not MIN:MAX"),
        (("export", "--onnx", "--model", "mini-latent", "--dynamic-frames", "8:9"), 2, "both even"),
        (("export", "--onnx", "--model", "mini-latent", "--frames", "7"), 2, "must be even"),
        (("export", "--onnx", "--model", "mini-latent", "--networks", "unet,brain"), 2, "unknown network 'brain'"),
        (("export", "--onnx", "--model", "mini-latent", "-o", "photos"), 1, "already exists"),
        (("export", "--onnx", "--model", "mini-latent", "--lora", "photos"), 1, "not a LoRA"),
        (("verify", "photos"), 1, "not an engine folder"),
        (("verify", "nowhere"), 1, "not an engine folder"),
        (("generate", PHOTO, "--model", "mini-latent", "--backend", "abacus"), 2, "unknown runtime 'abacus'"),
        (
            ("generate", PHOTO, "--model", "mini-latent", "--backend", "onnxruntime"),
            1,
            "contains PyTorch weights, not engines",
        ),
    ],
    ids=[
        "nothing",
        "model",
        "dtype",
        "range",
        "odd range",
        "odd",
        "network",
        "exists",
        "lora",
        "verify",
        "verify nothing",
        "backend",
        "no engines",
    ],
)
def test_refusals_are_one_line(tmp_path: Path, arguments: tuple[str | Path, ...], code: int, says: str) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/note.txt").write_text("mine")
    result = run(*arguments, *(("-q",) if "-q" not in arguments else ()), cwd=tmp_path)
    assert_refused(result, code, says)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["note.txt", "photos"]


@pytest.mark.skipif(trt.has_gpu(), reason="there is a GPU here")
@pytest.mark.skipif(trt.find_spec("tensorrt_rtx") is None, reason="needs the extra trt-rtx")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--compute-capability", "current"), "no GPU on this machine"),
        (("--compute-capability", "9.0"), "does not support 9.0"),
        (("--timing-cache", "cache"), "--timing-cache"),
    ],
    ids=["current", "capability", "timing"],
)
def test_engines_that_cannot_be_built_here(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    source = tiny_source(tmp_path_factory)
    result = run("export", "--trt", "--trt-flavor", "rtx", "--model", source, *options, "-q", cwd=tmp_path)
    assert_refused(result, result.returncode, says)
    assert result.returncode in (1, 2) and not list(tmp_path.iterdir())


def test_the_default_name_tells_what_it_is(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    source = tiny_source(tmp_path_factory)
    made = run("export", "--onnx", "--model", source, "--networks", "vae_encoder", "-q", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert made.stdout == "tiny-onnx-fp32-4x64x48\n"
    refused = run("generate", PHOTO, "--model", "tiny-onnx-fp32-4x64x48", "-q", cwd=tmp_path)
    assert_refused(refused, 1, "no unet (only vae_encoder)")
