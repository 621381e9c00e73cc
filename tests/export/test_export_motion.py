"""Export of motion models: U-Net, context network and parser as graphs that move a photo as PyTorch does."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_folders import edit, shared
from tiny_motion import build_tiny_motion_model, paper_doll

from fashionflow_core import pipeline, runtimes
from fashionflow_core.config import GenerateSettings, LoadOptions, ModelConfig
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, UsageError
from fashionflow_core.runtimes.engine_networks import MotionEngineNetworks
from fashionflow_core.runtimes.verification import psnr_of_frames
from fashionflow_core.store.engine_folder import BUILT_NOT_RUN, GRAPHS_OF, VERIFIED, Engines
from fashionflow_core.store.folder import damage
from fashionflow_export import tensorrt as trt
from fashionflow_export.export import export_model
from fashionflow_export.settings import EngineSettings, ExportSettings

SHORT: dict[str, Any] = {"frames": 12, "fps": 24.0, "seed": 3}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared(tmp_path_factory, "tiny-motion-source", build_tiny_motion_model)


@pytest.fixture(scope="module")
def engines(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared(tmp_path_factory, "tiny-motion-fp32", lambda path: export_model(source, path))


@pytest.fixture
def copy(engines: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(engines, tmp_path / "engines"))


def _frames(folder: Path, backend: str = "auto", **settings: Any) -> np.ndarray:
    photo, mask = paper_doll()
    pipe = pipeline.load(folder, device="cpu", backend=backend)
    return np.stack(list(pipe.generate(photo, matte=mask, **{**SHORT, **settings}).frames))


def test_a_folder_is_a_whole_model(engines: Path, source: Path) -> None:
    assert damage(engines) == []
    record, config, original = Engines.load(engines), ModelConfig.load(engines), ModelConfig.load(source)
    assert tuple(record.networks) == GRAPHS_OF["motion"] == record.graphs
    assert record.frames == [6, 6] and record.conventions == {}
    assert config == original  # nothing of its conventions is inside the graphs
    assert record.networks["parser"].inputs["photo"] == [2, 3, 320, 256]
    assert record.networks["unet"].inputs["sample"] == [1, 14, 6, 40, 32]
    state = record.runtimes["onnxruntime"]
    assert state.state == VERIFIED and state.generation["min_psnr"] >= 40
    assert {entry["network"] for entry in state.parity} == set(GRAPHS_OF["motion"])
    assert not list(engines.rglob("*.safetensors"))


@pytest.mark.parametrize("backend", ["onnxruntime", "unet=torch,parser=onnxruntime"])
def test_the_video_is_that_of_pytorch(engines: Path, source: Path, backend: str) -> None:
    expected = _frames(source)
    assert np.abs(expected[-1].astype(int) - expected[0]).max() > 20  # it moves
    assert min(psnr_of_frames(_frames(engines, backend), expected)) >= 40


def test_photos_go_through_in_batches(engines: Path, source: Path) -> None:
    photo, mask = paper_doll()
    clips = []
    for folder in (engines, source):
        pipe = pipeline.load(folder, device="cpu")
        requests = [GenerateSettings(**{**SHORT, "seed": seed}) for seed in (1, 2)]
        made = pipe.generate_batch([photo, photo], requests, [0, 1], mattes=[mask] * 2)
        clips.append([np.stack(list(clip.frames)) for clip in made])
    for found, expected in zip(*clips, strict=True):
        assert min(psnr_of_frames(found, expected)) >= 40


def test_counts_are_those_of_the_source(engines: Path, source: Path) -> None:
    networks, original = (
        runtimes.load(folder, LoadOptions(device="cpu", backend="auto")) for folder in (engines, source)
    )
    assert isinstance(networks, MotionEngineNetworks)
    assert networks.count_flop(6) == original.count_flop(6)
    for name in ("pixel_shape", "photo_channels", "latent_channels", "latent_height", "latent_width"):
        assert getattr(networks, name) == getattr(original, name)


def test_engines_that_never_ran_are_compared_first(copy: Path) -> None:
    edit(copy, lambda record: record["runtimes"]["onnxruntime"].update(state=BUILT_NOT_RUN, parity=[], generation={}))
    with pytest.warns(FashionFlowWarning, match="have never run"):
        pipeline.load(copy, device="cpu")
    assert Engines.load(copy).runtimes["onnxruntime"].state == VERIFIED


def test_a_short_loop_needs_engines_for_fewer_keyframes(engines: Path) -> None:
    assert len(_frames(engines, loop=True)) == 12
    with pytest.raises(UsageError, match=r"needs 4 keyframes, but these engines of tiny-motion were built for 6") as e:
        _frames(engines, loop=True, frames=8)
    assert e.value.hint is not None and "dynamic_frames=4:6" in e.value.hint


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"networks": ("unet", "vae_decoder")}, "unknown network 'vae_decoder'"),
        ({"decode_chunk": 3}, "has no decoder"),
        ({"frames": 2}, "at least 4, not 2"),
        ({"dynamic_frames": (2, 8)}, "--dynamic-frames: for motion model tiny-motion these are keyframes"),
    ],
)
def test_what_a_motion_model_has_not(source: Path, tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        export_model(source, tmp_path / "out", ExportSettings(**settings))
    assert not list(tmp_path.iterdir())


def test_refusals_of_the_runtime(engines: Path, copy: Path) -> None:
    with pytest.raises(UsageError, match="unknown network 'vae'") as caught:
        runtimes.load(engines, LoadOptions(device="cpu", backend="vae=torch"))
    assert caught.value.hint == "use one of: unet, image_encoder, parser"
    edit(copy, lambda record: record.update(latents="pixels"))
    with pytest.raises(FashionFlowError, match="latents are 'pixels', not appearance or motion"):
        pipeline.load(copy, device="cpu")


@pytest.mark.slow
def test_dynamic_engines_in_half_precision(source: Path, tmp_path: Path) -> None:
    """Of ONNX files and, where TensorRT-RTX is installed, engines, which it builds without a GPU."""
    rtx = trt.find_spec("tensorrt_rtx") is not None and trt.find_spec("polygraphy") is not None
    chosen = {"runtimes": ("onnxruntime", "tensorrt"), "engines": EngineSettings(flavor="rtx")} if rtx else {}
    settings = ExportSettings(dynamic_frames=(4, 6), dtype="fp16", **chosen)
    out, record = export_model(source, tmp_path / "out", settings)
    assert record.runtimes["onnxruntime"].state == VERIFIED and ModelConfig.load(out).keyframes == 6
    for frames in (8, 12):  # 4 and 6 keyframes
        expected = _frames(source, loop=True, frames=frames)
        assert min(psnr_of_frames(_frames(out, "onnxruntime", loop=True, frames=frames), expected)) >= 30
    if rtx:
        built = record.runtimes["tensorrt"].build["engines"]
        assert set(built) == set(GRAPHS_OF["motion"])
        assert [shape[2] for shape in built["unet"]["key"]["profile"]["sample"]] == [4, 6, 6]
        if not trt.has_gpu():
            assert record.runtimes["tensorrt"].state == BUILT_NOT_RUN


@pytest.mark.slow
def test_mini_is_the_same_model(tmp_path: Path) -> None:
    """The bundled weights; the export's own short generation is of a photo whose figure its parser finds."""
    mini = Path(pipeline.__file__).parent / "assets" / "mini"
    out, record = export_model(mini, tmp_path / "mini-onnx")
    state = record.runtimes["onnxruntime"]
    assert state.state == VERIFIED and state.generation["min_psnr"] >= 40
    assert max(entry["relative"] for entry in state.parity) < 1e-4
    with np.load(out / "references.npz") as answers:
        frames = answers["generation/frames"].astype(int)
    assert np.abs(frames[-1] - frames[0]).mean() > 1  # a moved figure, not camera motion of a photo without one
