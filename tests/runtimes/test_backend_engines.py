"""Runtimes over an engine folder: what is chosen, what is compared before the first use, and what is never loaded."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_folders import edit, replace_file, tiny_engines, tiny_source
from tiny import build_tiny_model

from fashionflow_core import pipeline, runtimes
from fashionflow_core.config import LoadOptions
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, UsageError
from fashionflow_core.runtimes import verification
from fashionflow_core.runtimes.engine_networks import EngineNetworks
from fashionflow_core.runtimes.verification import psnr_of_frames, short_generation
from fashionflow_core.store.engine_folder import BUILT_NOT_RUN, FAILED, GRAPHS_OF, VERIFIED, Engines
from fashionflow_core.store.folder import damage
from fashionflow_core.utils import extras
from fashionflow_export.exported_model import standard_photo
from fashionflow_export.verify import require_verified, verify_folder

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_source(tmp_path_factory)


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_engines(tmp_path_factory, "tiny-fp32", dynamic_frames=(8, 12))


@pytest.fixture
def copy(engines: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(engines, tmp_path / "engines"))


def _state(folder: Path) -> str:
    return Engines.load(folder).runtimes["onnxruntime"].state


def _wait(record: dict[str, Any]) -> None:
    record["runtimes"]["onnxruntime"].update(state=BUILT_NOT_RUN, parity=[], generation={})


# ---- which runtime -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", ("auto", "auto", "auto", "auto")),
        ("onnxruntime", ("onnxruntime",) * 4),
        ("unet=tensorrt,vae=torch", ("tensorrt", "torch", "torch", "auto")),
        ("vae_decoder = torch", None),
        (" image_encoder=torch , unet=onnxruntime", ("onnxruntime", "auto", "auto", "torch")),
    ],
)
def test_mixtures(text: str, expected: tuple[str, ...] | None) -> None:
    graphs = GRAPHS_OF["appearance"]
    if expected is None:
        with pytest.raises(UsageError):
            runtimes.parse_backend(text)
    else:
        assert tuple(runtimes.parse_backend(text, graphs)[name] for name in graphs) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("abacus", "unknown runtime 'abacus'"),
        ("", "unknown runtime ''"),
        ("unet=abacus", "unknown runtime 'abacus'"),
        ("brain=torch", "unknown network 'brain'"),
        ("unet=torch,torch", "no network in 'torch'"),
        ("vae=torch,vae_decoder=onnxruntime", "vae_decoder is given twice"),
    ],
)
def test_mixtures_that_cannot_be_meant(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        runtimes.parse_backend(text)


def test_auto_runs_what_is_there(engines: Path) -> None:
    networks = runtimes.load(engines, LoadOptions("cpu"))
    assert isinstance(networks, EngineNetworks)
    assert networks.frame_counts == range(8, 13, 2)
    assert (networks.latent_channels, networks.latent_height, networks.latent_width) == (4, 16, 12)


@pytest.mark.parametrize("mixture", ["vae=torch", "unet=torch,vae=onnxruntime"])
def test_a_mixture_is_the_same_video(engines: Path, mixture: str) -> None:
    pipe = pipeline.load(engines, device="cpu")
    photo = standard_photo(pipe.config)
    mixed = pipeline.load(engines, device="cpu", backend=mixture)
    frames = [short_generation(each, photo, 8, 4) for each in (pipe, mixed)]
    assert min(psnr_of_frames(*frames)) > 50


def test_a_mixture_needs_the_weights_it_came_from(copy: Path, tmp_path: Path) -> None:
    edit(copy, lambda record: record.update(source=str(tmp_path / "gone")))
    with pytest.raises(FashionFlowError, match="exported weights are missing"):
        runtimes.load(copy, LoadOptions("cpu", backend="vae=torch"))
    pipeline.load(copy, device="cpu")  # the engines themselves need none


def test_a_mixture_refuses_other_weights(copy: Path, source: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(source, tmp_path / "other"))
    weights = next((other / "vae").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    edit(copy, lambda record: record.update(source=str(other)))
    with pytest.raises(FashionFlowError, match="has changed since the export"):
        runtimes.load(copy, LoadOptions("cpu", backend="vae=torch"))


def test_batches_go_through(engines: Path) -> None:
    """Batches are cut into what a graph was built for; neighbours never change an answer."""
    networks = runtimes.load(engines, LoadOptions("cpu", backend="onnxruntime"))
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(7, 4, 16, 12, generator=generator)
    together = networks.decode(latents)
    one_by_one = torch.cat([networks.decode(latent[None]) for latent in latents])
    assert together.shape == (7, 3, 64, 48)
    assert torch.allclose(together, one_by_one, atol=1e-5)
    sample = torch.randn(2, networks.input_channels, 8, 16, 12, generator=generator)
    context = torch.randn(2, 17, 32, generator=generator)
    both = networks.denoise(sample, torch.tensor(3), context)
    assert torch.allclose(both[1:], networks.denoise(sample[1:], torch.tensor([3]), context[1:]), atol=1e-5)


def test_arithmetic_is_that_of_the_source(engines: Path, source: Path) -> None:
    networks, original = (runtimes.load(folder, LoadOptions("cpu")) for folder in (engines, source))
    for frames in (8, 10, 12):
        counted, expected = networks.count_flop(frames), original.count_flop(frames)
        assert counted["denoise"] == expected["denoise"]
        assert counted["decode"] == pytest.approx(expected["decode"], rel=0.01)
    assert networks.weights_bytes >= original.weights_bytes


# ---- what is refused -----------------------------------------------------------------------------------------------


def test_plain_weights_are_no_engines(source: Path) -> None:
    for name in ("onnxruntime", "tensorrt", "unet=onnxruntime"):
        with pytest.raises(FashionFlowError, match="contains PyTorch weights, not engines") as caught:
            runtimes.load(source, LoadOptions("cpu", backend=name))
        assert caught.value.hint is not None and str(source) in caught.value.hint


def test_settings_that_engines_cannot_meet(engines: Path) -> None:
    with pytest.raises(UsageError, match=r"engines in .* compute in fp32"):
        pipeline.load(engines, device="cpu", dtype="bf16")
    with pytest.raises(UsageError, match="compile"):
        pipeline.load(engines, device="cpu", compile=True)
    networks = runtimes.load(engines, LoadOptions("cpu"))
    with pytest.raises(FashionFlowError, match=r"unet takes sample of shape"):
        networks.denoise(torch.zeros(1, networks.input_channels, 8, 16, 16), torch.tensor([1]), torch.zeros(1, 17, 32))


@pytest.mark.parametrize("file", ["unet/model.onnx", "vae_decoder/model.onnx"])
def test_a_tampered_file_is_not_loaded(copy: Path, file: str) -> None:
    path = copy / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(FashionFlowError, match="its SHA-256 differs") as caught:
        pipeline.load(copy, device="cpu")
    assert str(path) in caught.value.message
    path.unlink()
    with pytest.raises(FashionFlowError, match="is missing"):
        pipeline.load(copy, device="cpu")
    assert damage(copy) == [f"{file} is missing"]


def test_a_corrupt_graph_is_one_line(copy: Path) -> None:
    replace_file(copy, "unet/model.onnx", b"not a graph at all")
    with pytest.raises(FashionFlowError, match="not an ONNX file") as caught:
        pipeline.load(copy, device="cpu")
    assert "\n" not in caught.value.message


def test_a_graph_of_other_tensors_is_refused(copy: Path) -> None:
    replace_file(copy, "unet/model.onnx", (copy / "vae_decoder/model.onnx").read_bytes())
    with pytest.raises(FashionFlowError, match=r"tensors are .*latents.*, not .*sample"):
        pipeline.load(copy, device="cpu")


def test_a_graph_of_other_shapes_is_refused(copy: Path) -> None:
    edit(copy, lambda record: record["networks"]["vae_decoder"]["inputs"].update(latents=[1, 4, 16, 12]))
    with pytest.raises(FashionFlowError, match=r"tensors are .*latents \[6, 4, 16, 12\].*, not .*\[1, 4, 16, 12\]"):
        pipeline.load(copy, device="cpu")


def test_without_onnxruntime(engines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(FashionFlowError, match="onnxruntime is not installed") as caught:
        pipeline.load(engines, device="cpu")
    assert caught.value.hint == extras.install("onnx")


def test_running_out_of_memory_is_told_as_such(engines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline then decodes fewer frames, or says what would need less."""
    networks: Any = runtimes.load(engines, LoadOptions("cpu", backend="onnxruntime"))

    class Full:
        def run(self, *_: Any) -> None:
            raise RuntimeError("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer")

    monkeypatch.setattr(networks.runners["vae_decoder"], "session", Full())
    with pytest.raises(torch.OutOfMemoryError):
        networks.decode(torch.zeros(1, 4, 16, 12))


# ---- states --------------------------------------------------------------------------------------------------------


def test_first_use_compares_and_remembers(copy: Path) -> None:
    edit(copy, _wait)
    with pytest.warns(FashionFlowWarning, match="onnxruntime engines have never run; verifying"):
        pipeline.load(copy, device="cpu")
    record = Engines.load(copy).runtimes["onnxruntime"]
    assert record.state == VERIFIED and {entry["network"] for entry in record.parity} == set(GRAPHS_OF["appearance"])
    assert record.generation["min_psnr"] >= 40 and record.generation["compared"] == 8
    with warnings.catch_warnings(action="error"):
        pipeline.load(copy, device="cpu")  # remembered


@pytest.mark.filterwarnings("ignore:.*have never run")
def test_first_use_compares_a_generation(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that are near enough one by one may still not make the same video."""
    edit(copy, _wait)
    monkeypatch.setitem(verification.MIN_PSNR, "fp32", 200.0)
    with pytest.raises(FashionFlowError, match=r"failed verification .frames of a generation at .* below 200 dB"):
        pipeline.load(copy, device="cpu")
    assert _state(copy) == FAILED


@pytest.mark.filterwarnings("ignore:.*have never run")
def test_first_use_in_a_folder_that_cannot_be_written(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    edit(copy, _wait)
    monkeypatch.setattr(Engines, "save", refuse)
    pipeline.load(copy, device="cpu")
    assert _state(copy) == BUILT_NOT_RUN
    with pytest.raises(FashionFlowError, match=r"the result cannot be written .permission denied"):
        verify_folder(copy, Engines.load(copy))


@pytest.mark.filterwarnings("ignore:.*have never run")
def test_first_use_of_a_mixture_says_nothing_of_the_rest(copy: Path) -> None:
    edit(copy, _wait)
    pipeline.load(copy, device="cpu", backend="vae=torch")
    assert _state(copy) == BUILT_NOT_RUN


@pytest.mark.filterwarnings("ignore:.*have never run")
def test_first_use_finds_a_wrong_engine(copy: Path, tmp_path: Path) -> None:
    """Another network of the same shapes: nothing but its answers is wrong."""
    from fashionflow_export.export import export_model
    from fashionflow_export.settings import ExportSettings

    other = build_tiny_model(tmp_path / "other", seed=1)
    export_model(other, tmp_path / "others", ExportSettings(networks=("vae_decoder",), frames=12))
    replace_file(copy, "vae_decoder/model.onnx", (tmp_path / "others/vae_decoder/model.onnx").read_bytes())
    edit(copy, _wait)
    with pytest.raises(FashionFlowError, match=r"failed verification .vae_decoder on random inputs"):
        pipeline.load(copy, device="cpu")
    assert _state(copy) == FAILED
    with pytest.raises(FashionFlowError, match="failed verification"):
        pipeline.load(copy, device="cpu")  # remembered, not compared again
    pipeline.load(copy, device="cpu", allow_unverified=True)
    verified = verify_folder(copy, Engines.load(copy))
    with pytest.raises(FashionFlowError, match="failed verification"):
        require_verified(copy, verified)


def test_verifying_again_needs_no_weights(copy: Path) -> None:
    edit(copy, lambda record: (_wait(record), record.update(source="/nowhere")))
    lines: list[str] = []
    record = verify_folder(copy, Engines.load(copy), report=lines.append).runtimes["onnxruntime"]
    assert record.state == VERIFIED == _state(copy)
    assert record.generation["min_psnr"] >= 40 and record.generation["compared"] == 8
    assert any("unet (real inputs, 8 frames)" in line for line in lines)


def test_changed_answers_are_no_answers(copy: Path) -> None:
    edit(copy, _wait)
    (copy / "references.npz").write_bytes(b"PK")
    with pytest.raises(FashionFlowError, match=r"references\.npz: is not the file"):
        verify_folder(copy, Engines.load(copy))
    for content in (b"PK", b"", (copy / "unet/config.json").read_bytes()):
        replace_file(copy, "references.npz", content)
        with pytest.raises(FashionFlowError, match=r"references\.npz: damaged"):
            verify_folder(copy, Engines.load(copy))
