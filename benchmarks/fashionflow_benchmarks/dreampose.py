"""DreamPose baseline: sampling frame by frame.

Follows DreamPose's public code (github.com/johannakarras/DreamPose: `test.py`, `pipelines/dual_encoder_pipeline.py`):
for every frame three VAE encodes and two passes through CLIP, PNDM with 100 steps, in each a batch of three through the
U-Net, one VAE decode; float32 weights under autocast. Weights are random, so videos are noise; times do not depend on
them.

Differences from that code are in its favour: fused attention, CLIP on the device (originally on the CPU), poses at the
size of the latents (originally resized in every step), no PNG files. Poses are given; estimating them is not included.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from torch import Tensor, nn

from fashionflow_benchmarks.baseline import Baseline, even_share
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
from fashionflow_core.runtimes.flops import count_flop
from fashionflow_core.utils.device import dtype_name

STEPS = 100
GUIDANCE = (8.0, 3.0)  # for photo and poses: --s1 8 --s2 3 in DreamPose's README
PASSES = 3  # of the U-Net per frame: unconditional, fully conditional, photo only


@dataclass(frozen=True)
class How:
    """Optimizations; the defaults are those of the public code.

    Attributes:
        half: whether weights have the dtype of the computation, instead of float32 under autocast.
        channels_last: whether U-Net and VAE use channels-last memory.
        compiled: whether U-Net and decoder use torch.compile, on CUDA with replayed graphs.
        once: whether photo and null condition are encoded once per video in one batch, instead of for every frame.
        frames_at_once: maximum frames per call of the U-Net; rounded to a divisor of the frames.
        decode_at_once: maximum frames per call of the decoder, likewise.
    """

    half: bool = False
    channels_last: bool = False
    compiled: bool = False
    once: bool = False
    frames_at_once: int = 1
    decode_at_once: int = 1


AS_PUBLISHED = How()
OPTIMISED = How(half=True, channels_last=True, compiled=True, once=True, frames_at_once=7, decode_at_once=7)


def make_scheduler(steps: int) -> Any:
    """Stable Diffusion v1-4's PNDM, set to `steps`; it makes one step more, with the second timestep twice."""
    scheduler = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    scheduler.set_timesteps(steps)
    return scheduler


class DreamPose:
    """The networks, and their calls during sampling.

    All tensors between the calls are float32. The same draws (of the VAE's posterior, and of the initial noise) are
    used for every frame: the original keeps the initial noise, but draws the posterior again, so encodings are repeated
    here.

    Args:
        shape: sizes and widths.
        device, dtype: device and dtype of the computation; float32 is without autocast.
        how: optimizations.
        seed: seed of weights, photo, poses and noise.
    """

    def __init__(
        self, shape: Shape, device: torch.device, dtype: torch.dtype, how: How = AS_PUBLISHED, seed: int = 0
    ) -> None:
        self.shape, self.device, self.dtype, self.how, self.seed = shape, device, dtype, how, seed
        with seeded(seed, device):
            self.unet: Any = UNet2DConditionModel(**shape.unet2d).eval()
            self.vae, self.clip, self.adapter = make_vae(shape), make_clip(shape), make_adapter(shape)
        networks: list[nn.Module] = [self.unet, self.vae, self.clip, self.adapter]
        self.weights_dtype = dtype if how.half else torch.float32
        for network in networks:
            nn.Module.to(network, self.weights_dtype)  # diffusers' own `to` warns without reason
        if how.channels_last:
            for network in (self.unet, self.vae):
                network.to(memory_format=torch.channels_last)
        if how.compiled:
            mode = "reduce-overhead" if device.type == "cuda" else "default"
            for network in (self.unet, self.vae.decoder):
                nn.Module.compile(network, mode=mode, dynamic=False)
        generator = torch.Generator().manual_seed(seed)
        side, latents = shape.clip["image_size"], (LATENT_CHANNELS, shape.height, shape.width)

        def normal(*size: int) -> Tensor:
            return torch.randn(size, generator=generator).to(device)

        # Photo for the context, null condition, photo for the start; the original uses two pixel ranges.
        self.pixels = normal(3, 3, *shape.pixels).clamp(-1, 1)
        self.clip_pixels = normal(2, 3, side, side)
        for absent in (self.pixels[1], self.clip_pixels[1]):
            absent.zero_()
        self.posterior_noise, self.noise = normal(3, *latents), normal(1, *latents)

    def poses(self, frames: int) -> Tensor:
        """Body poses, (frames, channels, h, w), independent of the number of frames."""
        generator = torch.Generator().manual_seed(self.seed)
        size = (frames, self.shape.unet2d["in_channels"] - LATENT_CHANNELS, self.shape.height, self.shape.width)
        return torch.randn(size, generator=generator).to(self.device)

    def encode(self, pixels: Tensor, noise: Tensor) -> Tensor:
        """Images (b, 3, H, W) in [-1, 1] and draws (b, c, h, w) → samples of their latents (b, c, h, w), scaled."""
        with self._computing():
            posterior = self.vae.encode(pixels.to(self.weights_dtype), return_dict=False)[0]
        return (posterior.mean.float() + posterior.std.float() * noise) * LATENT_SCALE

    def tokens(self, clip_pixels: Tensor, latents: Tensor) -> Tensor:
        """CLIP's pixels (b, 3, s, s) and latents (b, c, h, w) → context (b, n, d)."""
        with self._computing():
            hidden = self.clip(clip_pixels.to(self.weights_dtype)).last_hidden_state
            return self.adapter(hidden, latents.to(self.weights_dtype)).float()

    def predict(self, sample: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        """U-Net inputs (3 f, c + poses, h, w), contexts (3 f, n, d) → guided noise (f, c, h, w).

        Both in the order of `DreamPoseSampling`.

        Dual classifier-free guidance: photo and poses, each with its own weight (DreamPose,
        2304.06025, "Pose and image classifier-free guidance").
        """
        self._begin()
        with self._computing():
            sample, context = sample.to(self.weights_dtype), context.to(self.weights_dtype)
            predicted = self.unet(sample, timestep, context, return_dict=False)[0]
        nothing, everything, photo = predicted.float().chunk(PASSES)
        by_photo, by_poses = GUIDANCE
        return nothing + by_photo * (photo - nothing) + by_poses * (everything - photo)

    def decode(self, latents: Tensor) -> np.ndarray:
        """Latents (f, c, h, w) → uint8 (f, H, W, 3)."""
        self._begin()
        with self._computing():
            pixels = self.vae.decode((latents / LATENT_SCALE).to(self.weights_dtype), return_dict=False)[0]
        return tensor_to_frames((pixels.float() / 2 + 0.5).clamp(0, 1))

    def condition(self) -> tuple[Tensor, Tensor]:
        """Null context and context of the photo (2, n, d), and the latents (1, c, h, w) that noise is added to."""
        size = 3 if self.how.once else 1
        latents = _in_parts(self.encode, size, self.pixels, self.posterior_noise)
        tokens = _in_parts(self.tokens, size, self.clip_pixels, latents[:2])
        return tokens.flip(0), latents[2:]

    def sample(self, steps: int, frames: int) -> Tensor:
        """Latents (frames, c, h, w)."""
        together = even_share(frames, self.how.frames_at_once)
        found = []
        conditions = None
        for poses in self.poses(frames).split(together):
            if conditions is None or not self.how.once:
                conditions = self.condition()
            walk = DreamPoseSampling(self, *conditions, poses, steps)
            for _ in range(len(walk)):
                walk()
            found.append(walk.latents)
        return torch.cat(found)

    def video(self, steps: int, frames: int) -> np.ndarray:
        """uint8 (frames, H, W, 3): full sampling."""
        latents = self.sample(steps, frames)
        return np.concatenate(
            [self.decode(part) for part in latents.split(even_share(frames, self.how.decode_at_once))]
        )

    def _computing(self) -> contextlib.AbstractContextManager[None]:
        return computing(self.device, self.dtype, self.weights_dtype)

    def _begin(self) -> None:
        """Allow replayed graphs to overwrite earlier outputs."""
        if self.how.compiled:
            torch.compiler.cudagraph_mark_step_begin()


def _in_parts(call: Callable[[Tensor, Tensor], Tensor], size: int, *tensors: Tensor) -> Tensor:
    return torch.cat([call(*parts) for parts in zip(*(tensor.split(size) for tensor in tensors))])


class DreamPoseSampling:
    """Denoising of frames, one step per call; restarts after the last step.

    Args:
        model: model with the networks.
        context: null context and context of the photo, (2, n, d).
        start: latents of the photo, (1, c, h, w).
        poses: poses of the frames, (f, channels, h, w).
        steps: steps of PNDM, which makes one call more.
    """

    def __init__(self, model: DreamPose, context: Tensor, start: Tensor, poses: Tensor, steps: int) -> None:
        self.model, self.steps, self.frames = model, steps, len(poses)
        # Order of the original: unconditional, fully conditional, photo only.
        self.poses = torch.cat((torch.zeros_like(poses), poses, torch.zeros_like(poses)))
        self.context = context[[0, 1, 1]].repeat_interleave(self.frames, dim=0)
        self.timesteps: list[int] = make_scheduler(steps).timesteps.tolist()
        self.on_device = torch.tensor(self.timesteps, device=model.device)
        noisy = make_scheduler(steps).add_noise(start.cpu(), model.noise.cpu(), torch.tensor(self.timesteps[:1]))
        self.start = noisy.to(model.device).expand(self.frames, *start.shape[1:])
        self.restart()

    def __len__(self) -> int:
        return len(self.timesteps)

    def restart(self) -> None:
        """Reset to the noise."""
        self.scheduler, self.done, self.latents = make_scheduler(self.steps), 0, self.start

    def __call__(self) -> None:
        if self.done == len(self):
            self.restart()
        sample = torch.cat((self.latents.repeat(PASSES, 1, 1, 1), self.poses), dim=1)
        predicted = self.model.predict(sample, self.on_device[self.done], self.context)
        # A Python number for the scheduler: reading one from the device would synchronise.
        timestep = self.timesteps[self.done]
        self.latents = self.scheduler.step(predicted, timestep, self.latents, return_dict=False)[0]
        self.done += 1


def samples_a_call(frames: int, how: How) -> dict[str, int]:
    """Stage → images, or samples of the U-Net, in one call of it."""
    return {
        "encode": 3 if how.once else 1,
        "clip": 2 if how.once else 1,
        "denoise": PASSES * even_share(frames, how.frames_at_once),
        "decode": even_share(frames, how.decode_at_once),
    }


@functools.cache
def _count_sample(shape: Shape) -> int:
    """Floating-point operations of the U-Net for one sample."""
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel(**shape.unet2d).eval()
        sample = (1, shape.unet2d["in_channels"], shape.height, shape.width)
        context = (1, shape.tokens, shape.clip["hidden_size"])
        return count_flop(lambda x, t, c: unet(x, t, c, return_dict=False)[0], sample, (1,), context)


def count_weights(shape: Shape) -> dict[str, int]:
    """`Baseline.parameters`, without creating the networks."""
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel(**shape.unet2d)
        return count_parameters(unet=unet, vae=make_vae(shape), clip=make_clip(shape), adapter=make_adapter(shape))


def count_work(shape: Shape, how: How = AS_PUBLISHED, steps: int = STEPS) -> tuple[dict[str, int], dict[str, int]]:
    """`Baseline.calls` and `Baseline.flop`, without creating the networks."""
    frames = shape.frames
    samples = samples_a_call(frames, how)
    conditions = 1 if how.once else frames
    calls = {
        "encode": 3 * conditions // samples["encode"],
        "clip": 2 * conditions // samples["clip"],
        "denoise": len(make_scheduler(steps).timesteps) * PASSES * frames // samples["denoise"],
        "decode": frames // samples["decode"],
    }
    each = {**count_encoders(shape), "denoise": _count_sample(shape)}
    return calls, {stage: count * each[stage] for stage, count in samples.items()}


@contextlib.contextmanager
def open_dreampose(
    shape: Shape,
    device: torch.device,
    dtype: torch.dtype,
    how: How = AS_PUBLISHED,
    steps: int = STEPS,
    seed: int = 0,
) -> Iterator[Baseline]:
    """The baseline, as a context manager. At published sizes its float32 weights take 4.1 GB.

    Args:
        shape, device, dtype, how, seed: arguments of `DreamPose`.
        steps: steps per video, which determine the baseline's `calls`.
    """
    model, frames = DreamPose(shape, device, dtype, how, seed), shape.frames
    samples = samples_a_call(frames, how)
    calls, flop = count_work(shape, how, steps)

    def run(steps: int = steps, frames: int = frames) -> np.ndarray:
        return model.video(steps, frames)

    with keep_casts(device):
        poses = model.poses(frames)[: samples["denoise"] // PASSES]
        walk = DreamPoseSampling(model, *model.condition(), poses, steps)
        latents = model.noise.repeat(samples["decode"], 1, 1, 1)
        photos, seen = slice(samples["encode"]), slice(samples["clip"])
        of_seen = model.noise.repeat(samples["clip"], 1, 1, 1)
        yield Baseline(
            name="DreamPose-style" if how == AS_PUBLISHED else "DreamPose-style, optimised",
            label=shape.label,
            stages={
                "encode": lambda: model.encode(model.pixels[photos], model.posterior_noise[photos]),
                "clip": lambda: model.tokens(model.clip_pixels[seen], of_seen),
                "denoise": walk,
                "decode": lambda: model.decode(latents),
            },
            calls=calls,
            flop=flop,
            run=run,
            walk=len(walk),
            restart=walk.restart,
            parameters=count_parameters(unet=model.unet, vae=model.vae, clip=model.clip, adapter=model.adapter),
            details={
                **shape.as_dict(),
                "steps": steps,
                "dtype": dtype_name(dtype),
                "weights": f"random, seed {seed}, {dtype_name(model.weights_dtype)}",
                "samples_a_call": samples,
                **dataclasses.asdict(how),
            },
        )
