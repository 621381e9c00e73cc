"""Published FashionFlow baseline: 1000 DDPM steps, frames decoded one at a time.

Conventions of the published inference code: the photo is encoded twice, with a sample of the VAE's posterior each time;
the context is made of CLIP's tokens and the second sample; the first frame is inserted before the first step and after
every step. The U-Net runs under autocast, everything else in float32.
"""

import contextlib
import functools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from fashionflow_benchmarks.baseline import Baseline
from fashionflow_benchmarks.reference_unet import LiteralUNet
from fashionflow_benchmarks.shapes import (
    LATENT_CHANNELS,
    LATENT_SCALE,
    Shape,
    computing,
    count_encoders,
    count_parameters,
    keep_casts,
    make_adapter,
    make_clip,
    make_vae,
    seeded,
)
from fashionflow_core.diffusion.conditioning import tensor_to_frames
from fashionflow_core.models.noise_schedules import published_betas
from fashionflow_core.runtimes.flops import count_flop
from fashionflow_core.utils.device import dtype_name

STEPS = 1000


class AncestralSteps:
    """DDPM, epsilon prediction (Ho et al. 2020, algorithm 2) on the published betas.

    Coefficients are computed in float64.

    Args:
        steps: steps of the noise schedule, all of which are used; at least 2. Fewer than 1000 compress its shape.
    """

    def __init__(self, steps: int) -> None:
        betas = torch.tensor(published_betas(steps), dtype=torch.float64)
        alphas_cumprod = (1 - betas).cumprod(0)
        before = torch.cat((torch.ones(1, dtype=torch.float64), alphas_cumprod[:-1]))
        self.inverse_root = (1 - betas).rsqrt().tolist()
        self.of_noise = (betas / (1 - alphas_cumprod).sqrt()).tolist()
        self.deviation = (betas * (1 - before) / (1 - alphas_cumprod)).sqrt().tolist()

    def step(self, sample: Tensor, predicted: Tensor, noise: Tensor, t: int) -> Tensor:
        """x_t, the predicted and the fresh noise → x_(t-1), all of one shape. At t = 0 the deviation is 0."""
        mean = self.inverse_root[t] * (sample - self.of_noise[t] * predicted)
        return mean + self.deviation[t] * noise


class Published:
    """The networks, and their calls during sampling.

    Args:
        shape: sizes and widths.
        device: device of the computation.
        dtype: dtype of the U-Net's autocast; float32 is without autocast.
        seed: seed of weights, photo and noise.
        unet: U-Net to use instead of one with random weights (such as `suites.literal_twin`).
    """

    def __init__(
        self, shape: Shape, device: torch.device, dtype: torch.dtype, seed: int = 0, unet: LiteralUNet | None = None
    ) -> None:
        self.shape, self.device, self.dtype, self.seed = shape, device, dtype, seed
        with seeded(seed, device):
            self.unet = (LiteralUNet(**shape.unet3d) if unet is None else unet).to(device).eval()
            self.vae, self.clip, self.adapter = make_vae(shape), make_clip(shape), make_adapter(shape)
        generator = torch.Generator().manual_seed(seed)

        def normal(*size: int) -> Tensor:
            return torch.randn(size, generator=generator).to(device)

        side, latents = shape.clip["image_size"], (LATENT_CHANNELS, shape.height, shape.width)
        self.pixels = normal(1, 3, *shape.pixels).clamp(0, 1)
        self.clip_pixels, self.posterior_noise = normal(1, 3, side, side), normal(2, 1, *latents)

    def encode(self, noise: Tensor) -> Tensor:
        """A draw (1, c, h, w) → a sample of the photo's latents (1, c, h, w), scaled."""
        with torch.inference_mode():
            posterior = self.vae.encode(self.pixels, return_dict=False)[0]
        return (posterior.mean + posterior.std * noise) * LATENT_SCALE

    def tokens(self, latents: Tensor) -> Tensor:
        """Latents (1, c, h, w) of the photo → context (1, n, d)."""
        with torch.inference_mode():
            return self.adapter(self.clip(self.clip_pixels).last_hidden_state, latents)

    def predict(self, sample: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        """Latents (1, c, f, h, w), timesteps (1,), context (1, n, d) → noise (1, c, f, h, w)."""
        with computing(self.device, self.dtype, torch.float32):
            return self.unet(sample, timestep, context).float()

    def decode(self, latents: Tensor) -> np.ndarray:
        """One frame's latents (1, c, h, w) → uint8 (1, H, W, 3). The decoder's output is clamped, not rescaled."""
        with torch.inference_mode():
            return tensor_to_frames(self.vae.decode(latents / LATENT_SCALE, return_dict=False)[0].clamp(0, 1))

    def walk(self, steps: int, frames: int) -> "PublishedSampling":
        """Denoising of a clip conditioned on the photo."""
        first, globally = (self.encode(noise) for noise in self.posterior_noise)
        return PublishedSampling(self, self.tokens(globally), first, steps, frames)

    def video(self, steps: int, frames: int) -> np.ndarray:
        """uint8 (frames, H, W, 3): full sampling."""
        walk = self.walk(steps, frames)
        for _ in range(len(walk)):
            walk()
        return np.concatenate([self.decode(walk.latents[:, :, frame]) for frame in range(frames)])


class PublishedSampling:
    """Denoising of a clip, one step per call; restarts after the last step.

    Args:
        model: model with the networks.
        context: context tokens, (1, n, d).
        first: latents of the first frame, (1, c, h, w).
        steps, frames: number of steps and frames; frames are even.
    """

    def __init__(self, model: Published, context: Tensor, first: Tensor, steps: int, frames: int) -> None:
        self.model, self.context, self.first, self.ancestral = model, context, first, AncestralSteps(steps)
        self.size = (1, LATENT_CHANNELS, frames, *first.shape[2:])
        self.timesteps = torch.arange(steps, device=model.device).flip(0)
        self.generator = torch.Generator(model.device)
        self.restart()

    def __len__(self) -> int:
        return len(self.timesteps)

    def restart(self) -> None:
        """Reset to the noise."""
        self.generator.manual_seed(self.model.seed)
        self.done, self.latents = 0, self._pinned(self._noise())

    def __call__(self) -> None:
        if self.done == len(self):
            self.restart()
        timestep = self.timesteps[self.done : self.done + 1]
        predicted = self.model.predict(self.latents, timestep, self.context)
        t = len(self) - 1 - self.done
        self.latents = self._pinned(self.ancestral.step(self.latents, predicted, self._noise(), t))
        self.done += 1

    def _noise(self) -> Tensor:
        return torch.randn(self.size, generator=self.generator, device=self.model.device)

    def _pinned(self, latents: Tensor) -> Tensor:
        latents[:, :, 0] = self.first
        return latents


@functools.cache
def _count_pass(shape: Shape) -> int:
    """Floating-point operations of the U-Net for a whole clip."""
    sample = (1, LATENT_CHANNELS, shape.frames, shape.height, shape.width)
    with torch.device("meta"):
        return count_flop(
            LiteralUNet(**shape.unet3d).eval(), sample, (1,), (1, shape.tokens, shape.clip["hidden_size"])
        )


def count_work(shape: Shape, steps: int = STEPS) -> tuple[dict[str, int], dict[str, int]]:
    """`Baseline.calls` and `Baseline.flop`, without creating the networks."""
    calls = {"encode": 2, "clip": 1, "denoise": steps, "decode": shape.frames}
    return calls, {**count_encoders(shape), "denoise": _count_pass(shape)}


@contextlib.contextmanager
def open_published(
    shape: Shape,
    device: torch.device,
    dtype: torch.dtype,
    steps: int = STEPS,
    seed: int = 0,
    unet: LiteralUNet | None = None,
) -> Iterator[Baseline]:
    """The baseline, as a context manager.

    Args:
        shape, device, dtype, seed, unet: arguments of `Published`.
        steps: steps per video, which determine the baseline's `calls`.
    """
    model, frames = Published(shape, device, dtype, seed, unet), shape.frames
    calls, flop = count_work(shape, steps)

    def run(steps: int = steps, frames: int = frames) -> np.ndarray:
        return model.video(steps, frames)

    with keep_casts(device):
        walk = model.walk(steps, frames)
        yield Baseline(
            name="FashionFlow as published",
            label=shape.label,
            stages={
                "encode": lambda: model.encode(model.posterior_noise[0]),
                "clip": lambda: model.tokens(walk.first),
                "denoise": walk,
                "decode": lambda: model.decode(walk.first),
            },
            calls=calls,
            flop=flop,
            run=run,
            walk=steps,
            restart=walk.restart,
            parameters=count_parameters(unet=model.unet, vae=model.vae, clip=model.clip, adapter=model.adapter),
            details={
                **shape.as_dict(),
                "steps": steps,
                "dtype": dtype_name(dtype),
                "weights": f"random, seed {seed}, float32" if unet is None else "given, float32",
            },
        )
