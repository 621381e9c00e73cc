"""docs/guides/export.md is true: its example runs with numpy and onnxruntime alone, and makes our video."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_folders import shared
from export_mini import export_mini
from places import ROOT

from fashionflow_core import pipeline
from fashionflow_core.diffusion.conditioning import known_content
from fashionflow_core.diffusion.known_frames import KnownFrames
from fashionflow_core.diffusion.schedulers import set_timesteps
from fashionflow_core.runtimes.verification import psnr_of_frames
from fashionflow_core.store.engine_folder import GRAPHS, GRAPHS_OF, Engines
from fashionflow_export import tensorrt as trt
from fashionflow_export.exported_model import standard_photo

GUIDE = ROOT / "docs" / "guides" / "export.md"
BANNED = ("torch", "diffusers", "transformers", "fashionflow_core", "onnx", "PIL")


@pytest.fixture(scope="module")
def mini_engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared(tmp_path_factory, "mini-engines", export_mini)


def _example() -> str:
    (block,) = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return block


@pytest.mark.slow
def test_the_example_makes_our_video(mini_engines: Path, tmp_path: Path) -> None:
    shutil.copytree(mini_engines, tmp_path / "mini-latent-onnx")
    pipe = pipeline.load(mini_engines, device="cpu")
    photo = standard_photo(pipe.config)
    np.save(tmp_path / "photo.npy", photo)
    code = _example() + f"\nimport sys\nassert not set(sys.modules) & {set(BANNED)!r}\n"
    code += "np.savez('inside.npz', context=context, noise=noise, latent=latent)\n"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    clip, inside = np.load(tmp_path / "clip.npy"), np.load(tmp_path / "inside.npz")
    assert clip.shape == (8, 320, 256, 3) and clip.dtype == np.uint8

    # The same noise and context through our own parts, with diffusers' scheduler.
    config, networks = pipe.config, pipe.networks
    latent, context = torch.from_numpy(inside["latent"]), torch.from_numpy(inside["context"])
    ours, of_clip, _ = pipe.conditioner.encode(photo[None], [torch.Generator()])
    torch.testing.assert_close(ours, latent, atol=1e-4, rtol=1e-4)
    assert float((of_clip - context).norm() / of_clip.norm()) < 0.2  # nearest pixels instead of bicubic ones
    known = KnownFrames.first(latent, 8, known_content(latent, latent, config), config.mask_fill)
    scheduler = pipe.make_scheduler("ddim")
    set_timesteps(scheduler, config.steps, torch.device("cpu"), config.log_snr)
    x = torch.from_numpy(inside["noise"]).float()
    for step in scheduler.timesteps:
        x = scheduler.step(networks.denoise(known.network_input(x), step, context), step, x, return_dict=False)[0]
    frames = np.stack(list(pipe.decode(known.pin(x))))
    assert min(psnr_of_frames(clip, frames)) > 40


def test_tools_of_others_read_our_graphs(mini_engines: Path) -> None:
    """The commands that the page shows, as far as they need no GPU."""
    pytest.importorskip("polygraphy", reason="needs the extra trt-rtx")
    for arguments in (("inspect", "model"), ("run", "--onnxrt")):
        command, *options = arguments
        path = str(mini_engines / "image_encoder" / "model.onnx")
        ordered = [command, *options, path] if command == "inspect" else [command, path, *options]
        found = subprocess.run(
            [sys.executable, "-c", "from polygraphy.tools import main; main()", *ordered],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        text = found.stdout + found.stderr
        assert found.returncode == 0, text
        assert "context" in text if command == "inspect" else "PASSED" in text


def test_every_tensor_is_in_the_table() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    for name, graph in GRAPHS.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}`"))
        assert all(f"`{tensor}`" in row for tensor in (*graph.inputs, *graph.outputs))


@pytest.mark.skipif(trt.find_spec("tensorrt_rtx") is None, reason="needs the extra trt-rtx")
def test_the_builder_described_every_engine(mini_engines: Path) -> None:
    built = Engines.load(mini_engines).runtimes["tensorrt"].build["engines"]
    assert set(built) == set(GRAPHS_OF["appearance"])
    assert all(engine["activation_traffic_bytes"] > 0 for engine in built.values())
