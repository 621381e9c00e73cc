"""Export to ONNX: what a folder holds, that its graphs say what PyTorch says, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from engine_folders import tiny_engines, tiny_source
from onnx import TensorProto
from places import ROOT
from tiny import build_tiny_model, seeded

from fashionflow_core import pipeline, runtimes
from fashionflow_core.config import GenerateSettings, ModelConfig
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, UsageError
from fashionflow_core.runtimes import verification
from fashionflow_core.runtimes.graphs import UNetGraph, make_graphs
from fashionflow_core.runtimes.torch import load as load_torch
from fashionflow_core.runtimes.verification import psnr_of_frames, short_generation
from fashionflow_core.store.engine_folder import BUILT_NOT_RUN, FAILED, GRAPHS, GRAPHS_OF, VERIFIED, Engines
from fashionflow_core.store.folder import damage
from fashionflow_core.utils import extras
from fashionflow_core.utils.hashing import sha256
from fashionflow_export import onnx as onnx_export
from fashionflow_export.channels_first_unet import for_engines
from fashionflow_export.export import export_model
from fashionflow_export.exported_model import standard_photo
from fashionflow_export.settings import ExportSettings

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_source(tmp_path_factory)


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In float32, 8 to 12 frames."""
    return tiny_engines(tmp_path_factory, "tiny-fp32", dynamic_frames=(8, 12))


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In float16, the model's own 4 frames."""
    return tiny_engines(tmp_path_factory, "tiny-fp16", dtype="fp16")


def _inputs(record: Any, frames: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn([frames if size == -1 else size for size in shape], generator=generator)
        for name, shape in record.inputs.items()
    }


# ---- the folder ----------------------------------------------------------------------------------------------------


def test_a_folder_is_a_whole_model(engines: Path, source: Path) -> None:
    assert damage(engines) == []
    weights = [path.parent.name for path in engines.rglob("*.safetensors")]
    assert weights == ["interpolator"]  # PyTorch runs it, beside any runtime (docs/guides/export.md)
    config, original = ModelConfig.load(engines), ModelConfig.load(source)
    assert (config.name, config.height, config.width, config.fps) == ("tiny", 64, 48, original.fps)
    assert config.frames == 12  # the model's own 4 are not among them
    assert (config.vae_patch_size, config.vae_range, set(config.latents_std)) == (1, "zero_one", {1.0})


def test_its_record_says_what_it_is(engines: Path, source: Path) -> None:
    record = Engines.load(engines)
    assert record.runtimes["onnxruntime"].state == VERIFIED
    assert record.model == "tiny" and record.dtype == "fp32" and record.frames == [8, 12]
    assert record.conventions["vae_patch_size"] == 2
    assert record.source_files == {
        path.relative_to(source).as_posix(): sha256(path) for path in sorted(source.rglob("*.safetensors"))
    }
    assert {"torch", "onnx", "fashionflow"} <= set(record.tools)
    parameters = {name: network.parameters for name, network in record.networks.items()}
    networks = load_torch(source, CPU, torch.float32)
    assert parameters["unet"] == sum(weight.numel() for weight in networks.unet.parameters())
    for file, entry in record.files.items():
        assert (engines / file).stat().st_size == entry.size
    names = {entry["network"] for entry in record.runtimes["onnxruntime"].parity}
    assert names == set(GRAPHS_OF["appearance"])
    assert record.runtimes["onnxruntime"].generation["min_psnr"] >= 40


def test_tensors_are_named_and_float32_outside(engines: Path, halves: Path) -> None:
    for folder, inside in ((engines, TensorProto.FLOAT), (halves, TensorProto.FLOAT16)):
        for name in GRAPHS_OF["appearance"]:
            graph = GRAPHS[name]
            model = onnx.load(str(folder / name / "model.onnx"))
            assert [(entry.domain, entry.version) for entry in model.opset_import if not entry.domain] == [("", 20)]
            assert tuple(value.name for value in model.graph.input) == graph.inputs
            assert tuple(value.name for value in model.graph.output) == graph.outputs
            borders = [*model.graph.input, *model.graph.output]
            assert {value.type.tensor_type.elem_type for value in borders} == {TensorProto.FLOAT}
            largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
            assert largest.data_type == inside
            # Nothing of the machine that it was made on.
            assert str(ROOT) not in str(model.graph.node)


def test_exports_repeat_byte_for_byte(engines: Path, source: Path, tmp_path: Path) -> None:
    """Engine caches know a graph by its hash."""
    again = ExportSettings(networks=("vae_decoder",), frames=12, verify=False)
    export_model(source, tmp_path / "again", again)
    assert sha256(tmp_path / "again/vae_decoder/model.onnx") == sha256(engines / "vae_decoder/model.onnx")


def test_large_graphs_keep_their_weights_beside(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "EXTERNAL_BYTES", 1000)
    _, record = export_model(source, tmp_path / "large", ExportSettings(networks=("vae_decoder",)))
    assert {"vae_decoder/model.onnx", "vae_decoder/model.onnx.data"} <= set(record.files)
    assert record.runtimes["onnxruntime"].state == VERIFIED


# ---- what the graphs say -------------------------------------------------------------------------------------------


def test_the_formulation_for_engines_is_the_same_network(source: Path) -> None:
    networks = load_torch(source, CPU, torch.float32)
    plain = UNetGraph(networks.unet).eval()
    written = for_engines(plain)
    inputs = (torch.randn(1, networks.input_channels, 6, 16, 12), torch.tensor([3.0]), torch.randn(1, 17, 32))
    with torch.inference_mode(), seeded(0):
        difference = (plain(*inputs) - written(*inputs)).abs().max()
    assert 0 < difference < 1e-5  # never exactly 0: convolutions are other ones
    assert plain.unet is not written.unet  # a copy: the network itself is left as it was


@pytest.mark.parametrize("frames", [8, 10, 12])
def test_one_dynamic_file_takes_every_even_number(engines: Path, source: Path, frames: int) -> None:
    """A naive export of the position bias runs at another length and is wrong by 0.01."""
    record = Engines.load(engines)
    runner = runtimes.open_runners(engines, record, "onnxruntime", ["unet"], CPU)["unet"]
    inputs = _inputs(record.networks["unet"], frames)
    graph = make_graphs(load_torch(source, CPU, torch.float32), ModelConfig.load(source))["unet"]
    with torch.inference_mode():
        expected = graph(**inputs)
    found = runner(inputs)["prediction"]
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_a_dynamic_folder_was_compared_at_two_lengths(engines: Path) -> None:
    record = Engines.load(engines)
    lengths = {entry["frames"] for entry in record.runtimes["onnxruntime"].parity if entry["network"] == "unet"}
    assert lengths == {8, 12}
    assert record.networks["unet"].inputs["sample"][2] == -1


def test_half_precision_is_exported_and_close(halves: Path) -> None:
    record = Engines.load(halves)
    assert record.runtimes["onnxruntime"].state == VERIFIED
    assert {network.dtype for network in record.networks.values()} == {"fp16"}
    assert record.runtimes["onnxruntime"].generation["min_psnr"] >= 30
    total = sum(path.stat().st_size for path in halves.rglob("*.onnx"))
    assert record.networks["unet"].parameters * 2 < total


def test_softmax_and_norms_of_half_precision_are_wide(halves: Path) -> None:
    for name in GRAPHS_OF["appearance"]:
        model = onnx.shape_inference.infer_shapes(onnx.load(str(halves / name / "model.onnx")))
        types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
        for node in model.graph.node:
            wide = {"Softmax", "LayerNormalization"} | ({"InstanceNormalization"} if name != "unet" else set())
            if node.op_type in wide and node.output[0] in types:
                assert types[node.output[0]] == TensorProto.FLOAT, (name, node.name)


def test_a_decoder_beyond_float16_stays_in_float32(tmp_path: Path) -> None:
    """Stable Diffusion's decoder is known to overflow: the gate looks at values, not at names."""
    folder = build_tiny_model(tmp_path / "loud")
    networks: Any = load_torch(folder, CPU, torch.float32)
    with torch.no_grad():
        networks.vae.decoder.conv_in.weight *= 1e6
        networks.vae.decoder.conv_norm_out.weight *= 1e-3
    networks.vae.save_pretrained(folder / "vae")
    settings = ExportSettings(dtype="fp16", networks=("vae_decoder",))
    with pytest.warns(FashionFlowWarning, match="vae_decoder: values reach"):
        _, record = export_model(folder, tmp_path / "out", settings)
    assert record.dtype == "fp16" and record.networks["vae_decoder"].dtype == "fp32"
    assert record.runtimes["onnxruntime"].state == VERIFIED


@pytest.mark.slow
def test_published_conventions_are_inside_the_graphs(tmp_path: Path) -> None:
    """[0, 1] pixels, no patches, a sampled latent: the same video from the folder's plain conventions."""
    folder = build_tiny_model(tmp_path / "model", vae_range="zero_one", vae_sample=True, clip_rescale_twice=True)
    out, record = export_model(folder, tmp_path / "out")
    assert record.runtimes["onnxruntime"].state == VERIFIED
    config = ModelConfig.load(out)
    assert config.vae_sample and config.clip_rescale_twice
    photo, frames = standard_photo(config), []
    for place in (folder, out):
        frames.append(short_generation(pipeline.load(place, device="cpu"), photo, 4, 4))
    assert min(psnr_of_frames(*frames)) > 50


@pytest.mark.slow
def test_a_lora_is_fused(source: Path, tmp_path: Path) -> None:
    from fashionflow_core.runtimes.lora import add_lora, merge_lora, save_lora

    networks: Any = load_torch(source, CPU, torch.float32)
    add_lora(networks.unet, 2, 4.0, ("to_q", "to_v"))
    with torch.no_grad(), seeded(1):
        for name, weight in networks.unet.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.5)
    lora = save_lora(networks.unet, tmp_path / "lora", "tiny")
    out, record = export_model(source, tmp_path / "out", ExportSettings(networks=("unet",)), lora)
    assert record.model == "tiny+lora" == ModelConfig.load(out).name
    assert record.lora == str(lora) and record.runtimes["onnxruntime"].state == VERIFIED
    merged = make_graphs(
        load_torch(merge_lora(source, lora, tmp_path / "merged"), CPU, torch.float32), ModelConfig.load(source)
    )["unet"]
    plain = make_graphs(load_torch(source, CPU, torch.float32), ModelConfig.load(source))["unet"]
    inputs = _inputs(record.networks["unet"], 4)
    found = runtimes.open_runners(out, record, "onnxruntime", ["unet"], CPU)["unet"](inputs)["prediction"]
    with torch.inference_mode():
        assert (found - merged(**inputs)).abs().max() < 1e-4
        assert (found - plain(**inputs)).abs().max() > 1e-2


# ---- what is refused -----------------------------------------------------------------------------------------------


def test_folders_that_cannot_be_exported(engines: Path, source: Path, tmp_path: Path) -> None:
    with pytest.raises(FashionFlowError, match="contains engines"):
        export_model(engines, tmp_path / "out")
    with pytest.raises(FashionFlowError, match="not a model folder"):
        export_model(tmp_path, tmp_path / "out")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/dress.jpg").write_bytes(b"")
    with pytest.raises(FashionFlowError, match="already exists"):
        export_model(source, tmp_path / "photos", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]


def test_weights_are_never_replaced(source: Path, tmp_path: Path) -> None:
    """--overwrite is for engines: a slip of the -o must not cost a model, least of all the one that is exported."""
    model = Path(shutil.copytree(source, tmp_path / "model"))
    before = sorted(path.relative_to(model) for path in model.rglob("*"))
    for exported in (model, source):
        with pytest.raises(FashionFlowError, match="contains the weights of a model") as caught:
            export_model(exported, model, ExportSettings(networks=("vae_encoder",)), overwrite=True)
        assert str(model) in caught.value.message
    assert sorted(path.relative_to(model) for path in model.rglob("*")) == before


def test_the_slower_of_two_exports_replaces_nothing(source: Path, tmp_path: Path) -> None:
    def another(line: str) -> None:
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out/first").write_text("here")

    settings = ExportSettings(networks=("vae_encoder",), verify=False)
    with pytest.raises(FashionFlowError, match="already exists"):
        export_model(source, tmp_path / "out", settings, report=another)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["first", "out"]


def test_without_the_extra(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None)
    with pytest.raises(FashionFlowError, match="onnxscript is not installed") as caught:
        export_model(source, tmp_path / "out")
    assert caught.value.hint == extras.install("onnx")


def test_a_failed_export_leaves_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(torch.onnx, "export", broken)
    with pytest.raises(RuntimeError):
        export_model(source, tmp_path / "out", ExportSettings(networks=("vae_encoder",), verify=False))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "state"),
    [(FashionFlowError("out of luck"), FAILED), (torch.OutOfMemoryError("out of memory"), BUILT_NOT_RUN)],
    ids=["broken", "memory"],
)
def test_what_cannot_be_run_has_failed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, state: str
) -> None:
    """It is kept to be looked at. A machine that is too small says nothing of the engines."""

    def broken(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(verification, "compare", broken)
    out, record = export_model(source, tmp_path / "out", ExportSettings(networks=("vae_encoder",)))
    assert record.runtimes["onnxruntime"].state == state
    assert str(error) in record.runtimes["onnxruntime"].reason
    assert Engines.load(out).runtimes == record.runtimes


def test_psnr_of_frames() -> None:
    a = np.zeros((2, 4, 4, 3), np.uint8)
    b = a.copy()
    b[1] += 1
    assert psnr_of_frames(a, b) == [100.0, pytest.approx(48.13, abs=0.01)]


def test_settings_reach_a_generation(engines: Path) -> None:
    pipe = pipeline.load(engines, device="cpu")
    assert pipe.config.frames == 12
    photo = standard_photo(pipe.config)
    clip = pipe.generate(photo, GenerateSettings(frames=8, steps=1, decode_chunk=5))
    assert len(list(clip.frames)) == 8
    with pytest.raises(UsageError, match="built for 8 to 12 frames, not 14"):
        pipe.generate(photo, frames=14)
    assert json.dumps(pipe.plan(frames=10).tflop)
