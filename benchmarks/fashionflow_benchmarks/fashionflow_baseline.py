"""This project's pipeline as a baseline, with random weights."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from fashionflow_benchmarks.baseline import Baseline, even_share
from fashionflow_benchmarks.model_under_test import CHUNK, SEED, published_pipeline
from fashionflow_benchmarks.published import count_work as count_published
from fashionflow_benchmarks.shapes import Shape, count_parameters
from fashionflow_core.diffusion.conditioning import condition
from fashionflow_core.diffusion.sampling import item_generator
from fashionflow_core.diffusion.schedulers import set_timesteps
from fashionflow_core.utils.device import dtype_name


class PipelineSampling:
    """Denoising of a clip, one step of the sampling loop per call; restarts after the last.

    The same calls as in `sampling.sample`, one by one, to time single ones.
    """

    def __init__(self, pipeline: Any, known: Any, context: Any, steps: int) -> None:
        self.networks, self.known, self.context = pipeline.networks, known, context
        self.scheduler = pipeline.make_scheduler(pipeline.config.scheduler)
        self.steps = steps
        generator = torch.Generator().manual_seed(SEED)
        self.noise = torch.randn(known.latents.shape, generator=generator).to(known.latents.device)
        self.restart()

    def restart(self) -> None:
        """Reset to the noise."""
        set_timesteps(self.scheduler, self.steps, self.noise.device)
        self.left, self.latents = iter(self.scheduler.timesteps), self.noise * self.scheduler.init_noise_sigma

    def __call__(self) -> None:
        timestep = next(self.left, None)
        if timestep is None:
            self.restart()
            timestep = next(self.left)
        sample = self.known.network_input(self.scheduler.scale_model_input(self.latents, timestep))
        predicted = self.networks.denoise(sample, timestep, self.context)
        self.latents = self.scheduler.step(predicted, timestep, self.latents, return_dict=False)[0]


@contextlib.contextmanager
def open_fashionflow(
    shape: Shape, device: torch.device, dtype: torch.dtype, steps: int, compiled: bool = False
) -> Iterator[Baseline]:
    """This project's baseline, as a context manager.

    Args:
        shape: sizes and widths.
        device, dtype: as in generate.
        steps: steps per video.
        compiled: whether to use torch.compile, as `--compile`.
    """
    pipeline = published_pipeline(shape, device, dtype)
    networks: Any = pipeline.networks
    inputs = _inputs(pipeline, shape)
    flop = networks.count_flop(shape.frames)
    if compiled:
        networks.compile()
    decoded = even_share(shape.frames, CHUNK)
    latent, context, content = pipeline.conditioner.encode(inputs["photo"], [item_generator(SEED, 0)])
    known, context = condition(latent, context, content, shape.frames, "both", pipeline.config.mask_fill)
    walk = PipelineSampling(pipeline, known, context, steps)
    chunk = walk.noise[:, :, :decoded]
    samples = {"encode": 1, "clip": 1, "denoise": 1, "decode": decoded}
    each = {"encode": "encode_image", "clip": "context", "denoise": "denoise", "decode": "decode"}

    def run(steps: int = steps, frames: int = shape.frames) -> np.ndarray:
        return np.stack(list(pipeline.generate(inputs["photo"][0], steps=steps, frames=frames, seed=SEED).frames))

    yield Baseline(
        name="FashionFlow, ours",
        label=shape.label,
        stages={
            "encode": lambda: networks.encode_image(inputs["pixels"]),
            "clip": lambda: networks.context(inputs["clip_pixels"], latent),
            "denoise": walk,
            "decode": lambda: list(pipeline.decode(chunk, chunk=decoded)),
        },
        calls={"encode": 1, "clip": 1, "denoise": steps, "decode": shape.frames // decoded},
        flop={stage: samples[stage] * flop[name] for stage, name in each.items()},
        run=run,
        walk=steps,
        restart=walk.restart,
        parameters=count_parameters(
            unet=networks.unet, vae=networks.vae, clip=networks.image_encoder, adapter=networks.adapter
        ),
        details={
            **shape.as_dict(),
            "steps": steps,
            "dtype": dtype_name(dtype),
            "weights": f"random, seed {SEED}, {dtype_name(dtype)}",
            "samples_a_call": samples,
            "compiled": compiled,
        },
    )


def _inputs(pipeline: Any, shape: Shape) -> dict[str, Any]:
    generator = np.random.default_rng(SEED)
    height, width = shape.pixels
    side, device = shape.clip["image_size"], pipeline.networks.device
    return {
        "photo": generator.integers(0, 256, (1, height, width, 3), dtype=np.uint8),
        "pixels": torch.rand((1, 3, height, width), device=device),
        "clip_pixels": torch.rand((1, 3, side, side), device=device),
    }


def arithmetic_ratio(per_frame: tuple[dict[str, int], dict[str, int]], shape: Shape) -> float:
    """Floating-point operations of a video frame by frame (calls, flop) over those of the published FashionFlow."""
    at_once = count_published(shape)
    total = [sum(count * flop[stage] for stage, count in calls.items()) for calls, flop in (per_frame, at_once)]
    return total[0] / total[1]
