"""The VAE as a target of the same loop: it learns from videos, and what was encoded stays valid."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_train import assert_same_state, losses, state
from tiny import build_tiny_model

from fashionflow_core import video
from fashionflow_core.config import ModelConfig
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.runtimes.preprocessing import from_vae_pixels, to_vae_pixels
from fashionflow_core.runtimes.torch import load
from fashionflow_core.synthetic.clips import render_clip
from fashionflow_core.training import run as training
from fashionflow_core.training.settings import load_config
from fashionflow_core.training.targets import channel_energy


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model/, and clips/ of two videos of 6 frames."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("vae")
    build_tiny_model(folder / "model")
    (folder / "clips").mkdir()
    for seed in range(2):
        clip = render_clip(seed, 6, 64, 48, 25)
        video.write(clip.frames, folder / "clips" / f"{seed}.mp4", fps=25, count=6)
    return folder


def train(place: Path, out: Path, resume: bool = False, **changes: Any) -> Path:
    values = {"target": "vae", "data": place / "clips", "base": place / "model", "max_steps": 30, "batch_size": 4}
    values |= {"vae_crop": 32, "vae_frames_per_clip": 4, "lr": 2e-3, "ema_decay": 0.9, "log_every": 1} | changes
    config = load_config(None, [f"{key}={value}" for key, value in values.items()])
    return training.train(config, out, Path(config.base), resume=resume, device="cpu")


def psnr(model: Path) -> float:
    """Of the reconstruction of one frame, dB."""
    config, networks = ModelConfig.load(model), load(model, torch.device("cpu"), torch.float32)
    frame = torch.from_numpy(render_clip(0, 6, 64, 48, 25).frames[:1]).permute(0, 3, 1, 2).float() / 255
    redrawn = from_vae_pixels(networks.decode(networks.encode_image(to_vae_pixels(frame, config))[0]), config)
    return float(-10 * torch.log10((frame - redrawn).square().mean()))


def test_decoder_learns_and_the_encoder_stays(place: Path, tmp_path: Path):
    made = train(place, tmp_path / "run")
    assert psnr(made) > psnr(place / "model") + 1
    before, after = (
        load_file(folder / "vae" / "diffusion_pytorch_model.safetensors") for folder in (place / "model", made)
    )
    changed = {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}
    assert changed == {"decoder", "post_quant_conv"}
    for part in ("unet", "adapter", "image_encoder"):
        for file in (made / part).glob("*.safetensors"):
            assert (made / part / file.name).stat().st_size == (place / "model" / part / file.name).stat().st_size


def test_all_of_it_can_learn(place: Path, tmp_path: Path):
    train(place, tmp_path / "run", vae_train="all", max_steps=3)
    learnt = {name.split(".")[1] for name in state(tmp_path / "run", 3) if name.startswith("weights/")}
    assert learnt == {"encoder", "decoder", "quant_conv", "post_quant_conv"}
    assert np.isfinite(losses(tmp_path / "run")).all()


def test_it_resumes_exactly(place: Path, tmp_path: Path):
    train(place, tmp_path / "whole", max_steps=6)
    train(place, tmp_path / "run", max_steps=3)
    train(place, tmp_path / "run", resume=True, max_steps=6)
    assert_same_state(state(tmp_path / "run", 6), state(tmp_path / "whole", 6))


def test_folder_without_videos_is_refused(place: Path, tmp_path: Path):
    with pytest.raises(FashionFlowError, match="contains no videos"):
        train(place, tmp_path / "run", data=place / "model")


def test_channel_energy_is_what_a_linear_decoder_gives_each_channel():
    """For a decoder that is a matrix, the weights are the lengths of its columns times the deviations."""

    class Linear:
        matrix = torch.tensor([[3.0, 0, 0], [0, 1, 0], [4, 0, 2]])

        def decode(self, latents: torch.Tensor, return_dict: bool) -> tuple[torch.Tensor]:
            return (torch.einsum("dc,bchw->bdhw", self.matrix, latents),)

    found = channel_energy(Linear(), torch.randn(2, 3, 4, 4), (1.0, 2.0, 0.5))
    expected = torch.tensor([5.0, 2.0, 1.0])
    torch.testing.assert_close(found, expected / expected.mean())
