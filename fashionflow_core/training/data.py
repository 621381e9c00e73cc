"""Training batches: windows, noise, timesteps and given frames from (seed, step)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Protocol, Self

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fashionflow_core.config import ModelConfig
from fashionflow_core.diffusion.conditioning import clip_pixels
from fashionflow_core.runtimes.preprocessing import normalize_latents
from fashionflow_core.training.config import TrainConfig
from fashionflow_core.training.randomness import Shuffle, stream, uniform, whole


@dataclass(frozen=True)
class Draw:
    """One clip of one step: everything that determines its randomness.

    Attributes:
        step: index of the step, from 0.
        slot, slots: index and number of the step's clips, over all processes.
        item: index in the data set.
        frames: frames per window.
    """

    step: int
    slot: int
    slots: int
    item: int
    frames: int


@dataclass
class Batched:
    """A batch of any target: tensors whose first axis is the clip."""

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        return type(self)(**{field.name: change(getattr(self, field.name)) for field in fields(self)})

    def split(self, size: int) -> list[Self]:
        """Split into micro-batches of at most `size` clips."""
        pieces = {field.name: getattr(self, field.name).split(size) for field in fields(self)}
        return [type(self)(**dict(zip(pieces, piece))) for piece in zip(*pieces.values())]

    def to(self, device: torch.device) -> Self:
        return self.map(lambda x: x.to(device, non_blocking=True))


@dataclass
class Batch(Batched):
    """The clips of a step on one process; the first axis of every tensor is the clip.

    Attributes:
        latents: clean latents, normalised, (b, c, f, h, w).
        noise: noise, shape of `latents`.
        timestep: timestep of each clip, (b,) long.
        given: mask (b, f), 1 = given.
        keep: context mask, 0 where the context is dropped, (b,).
        rgb: frames at latent resolution, [-1, 1], (b, 3, f, h, w).
        photo_latents: latents of the window's first frame, normalised, (b, c, h, w): input of the adapter.
        clip_hidden_states: CLIP hidden states of the cached clip's first frame, (b, n, d).
        clip_pixels: CLIP input of that frame, (b, 3, s, s); empty unless the image encoder is trained.
        at_start: mask, 1 where the window starts at the cached clip's first frame, (b,).
    """

    latents: Tensor
    noise: Tensor
    timestep: Tensor
    given: Tensor
    keep: Tensor
    rgb: Tensor
    photo_latents: Tensor
    clip_hidden_states: Tensor
    clip_pixels: Tensor
    at_start: Tensor


class Clips(Protocol):
    """Protocol of the training set, such as `dataset.cache.LatentCache`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class Examples(Dataset[Any]):
    """One `Draw` → a batch of one clip.

    Args:
        clips: training set, with clips at least as long as the windows.
        config: settings of the run.
        model: model.json of the trained model.
        processor: CLIP's image processor; None unless the image encoder is trained.
        train_timesteps: length of the noise schedule.
    """

    def __init__(
        self, clips: Clips, config: TrainConfig, model: ModelConfig, processor: Any, train_timesteps: int
    ) -> None:
        self.clips, self.config, self.model = clips, config, model
        self.processor, self.train_timesteps = processor, train_timesteps

    def __len__(self) -> int:
        return len(self.clips)

    def timestep(self, draw: Draw, random: torch.Generator) -> Tensor:
        """Draw the timestep of a clip, (1,) long."""
        share = uniform(random)
        if self.config.noise.timesteps == "stratified":  # every step covers the whole noise range
            share = (draw.slot + share) / draw.slots
        return torch.tensor([min(int(share * self.train_timesteps), self.train_timesteps - 1)])


class ClipExamples(Examples):
    """One `Draw` → a `Batch` of one encoded clip."""

    def __getitem__(self, index: Any) -> Batch:
        draw: Draw = index
        config = self.config
        random = stream(config.seed, "clip", draw.step, draw.slot)
        clip = self.clips[draw.item]
        available = len(clip.latents_mean)
        start = whole(random, available - draw.frames + 1)
        backwards = uniform(random) < config.data.reverse
        order = torch.arange(start, start + draw.frames)
        order = order.flip(0) if backwards else order
        keep = float(uniform(random) >= config.conditioning.context_dropout)
        timestep = self.timestep(draw, random)
        given = draw_mask(config, draw.frames, random)
        mean, logvar = clip.latents_mean[order].float(), clip.latents_logvar[order].float()
        latents, photo = mean, mean[0]
        if config.data.sample_posterior:
            deviation = torch.exp(0.5 * logvar.clamp(-30, 20))
            latents = mean + deviation * torch.randn(mean.shape, generator=random)
            # Two samples, as in the published inference code: one for the given frame, one for the adapter.
            photo = latents[0]
            if self.model.vae_sample:
                photo = mean[0] + deviation[0] * torch.randn(mean[0].shape, generator=random)
        latents = rearrange(latents, "f c h w -> 1 c f h w")
        pixels = torch.empty(1, 0)
        if self.processor is not None:
            pixels = clip_pixels(as_array(clip.first_frame)[None], self.processor, self.model)
        return Batch(
            latents=normalize_latents(latents, self.model),
            noise=torch.randn(latents.shape, generator=random),
            timestep=timestep,
            given=given[None],
            keep=torch.tensor([keep]),
            rgb=rearrange(torch.as_tensor(clip.rgb)[order].float() / 127.5 - 1, "f h w c -> 1 c f h w"),
            photo_latents=normalize_latents(photo[None], self.model),
            clip_hidden_states=torch.as_tensor(clip.clip_hidden_states)[None].float(),
            clip_pixels=pixels,
            at_start=torch.tensor([float(order[0] == 0)]),
        )


def as_array(frames: Any) -> np.ndarray:
    """uint8 pixels as numpy, from a tensor or an array."""
    return frames.numpy() if isinstance(frames, Tensor) else np.asarray(frames)


def draw_mask(config: TrainConfig, frames: int, random: torch.Generator) -> Tensor:
    """Draw the mask of given frames, (f), 1 = given, from the mix; all 0 under global conditioning.

    generate: the first. interpolate: every n-th from the first on (paper 3.3: every second). extend: the first k, 2 to
    `extend_frames`, in use the last k of the previous clip.
    """
    mask = torch.zeros(frames)
    masks = config.masks
    kind, stride = uniform(random), whole(random, len(masks.interpolate_strides))
    length = 2 + whole(random, max(1, min(masks.extend_frames, frames - 1) - 1))
    if config.conditioning.kind == "global":
        return mask
    mask[0] = 1
    if kind >= masks.generate + masks.interpolate and masks.extend:
        mask[:length] = 1
    elif kind >= masks.generate and masks.interpolate:
        mask[:: masks.interpolate_strides[stride]] = 1
    return mask


def collate(items: list[Any]) -> Any:
    """Collate batches of one clip; for the data loader."""
    return type(items[0])(
        **{field.name: torch.cat([getattr(item, field.name) for item in items]) for field in fields(items[0])}
    )


class Steps:
    """Infinite batch sampler: the draws of one process, step by step.

    Args:
        seed, items: seed and number of items of the shuffle.
        window: step → (clips of the step over all processes, frames of each).
        step, drawn: starting point: steps done, and clips drawn by them.
        rank, world: index of this process, and number of processes.
    """

    def __init__(
        self,
        seed: int,
        items: int,
        window: Callable[[int, int], tuple[int, int]],
        step: int,
        drawn: int,
        rank: int,
        world: int,
    ) -> None:
        self.shuffle, self.window = Shuffle(seed, items), window
        self.step, self.drawn, self.rank, self.world = step, drawn, rank, world

    def __iter__(self) -> Iterator[list[Draw]]:
        step, drawn = self.step, self.drawn
        while True:
            slots, frames = self.window(step, drawn)
            yield [
                Draw(step, slot, slots, self.shuffle[drawn + slot], frames)
                for slot in range(self.rank, slots, self.world)
            ]
            step, drawn = step + 1, drawn + slots


def loader(examples: Dataset[Any], steps: Steps, workers: int, pin: bool) -> Iterator[Any]:
    """Batches of `steps`, prefetched by `workers` processes; 0: loaded in this process."""
    return iter(
        DataLoader(
            examples,
            batch_sampler=steps,  # type: ignore[arg-type]  # it has no end, and so no length
            num_workers=workers,
            collate_fn=collate,
            pin_memory=pin,
            persistent_workers=False,
            multiprocessing_context="spawn" if workers else None,
        )
    )
