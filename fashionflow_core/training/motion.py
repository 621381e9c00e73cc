"""Training of motion models: data, target, loss."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from fashionflow_core.config import ModelConfig
from fashionflow_core.diffusion.conditioning import clip_pixels, load_processor
from fashionflow_core.diffusion.known_frames import KnownFrames
from fashionflow_core.errors import FashionFlowError, UsageError, command
from fashionflow_core.models import FashionFlowUNet, ImageContextAdapter
from fashionflow_core.motion.conditions import PHOTO_CHANNELS, photo_channels
from fashionflow_core.motion.figure_box import GRID, FigureBox
from fashionflow_core.motion.layers import visible_e
from fashionflow_core.motion.timing import KEYFRAMES, SPACING
from fashionflow_core.runtimes.torch import open_network
from fashionflow_core.store.folder import PARSER
from fashionflow_core.synthetic.motion_clips import KEYS, MotionClip, read_motion_clip, read_motion_info
from fashionflow_core.training import build
from fashionflow_core.training.config import TrainConfig
from fashionflow_core.training.data import Batched, Draw, Examples
from fashionflow_core.training.losses import add_noise, levels_of, target_of, timestep_weights
from fashionflow_core.training.motion_augment import View, damaged, mirrored, mirrored_channels, recoloured
from fashionflow_core.training.randomness import stream, uniform, whole
from fashionflow_core.training.schedules import noise_scheduler
from fashionflow_core.training.targets import Conditioned, write_model

CHANNELS = 4
_PARTS = ("unet", "adapter", "image_encoder")
_OUTSIDE = 0.02  # loss weight of cells without a figure, where the channels are extrapolated
_DAMAGED = 0.35  # share of clips with errors in the matte
_LOOPING = 0.5  # share of windows with a given last frame, among clips that return to the photo


class MotionClips:
    """Motion clips of a folder, loaded on demand.

    Args:
        folder: folder of motion clips (`synthetic.motion_clips`).

    Raises:
        FashionFlowError: no such folder, or no motion clips in it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.files = sorted(self.folder.glob("*.safetensors"))
        if not self.files:
            raise FashionFlowError(
                f"{folder}: contains no motion clips",
                hint=f"create some: {command('data synth', motion=True, out=folder)}",
            )
        read_motion_info(self.files[0])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> MotionClip:
        return read_motion_clip(self.files[number])

    def deviations(self, clips: int = 256) -> tuple[float, ...]:
        """Root mean square of each channel on the figure, over the keyframes after the first, of at most N clips."""
        total, weight = np.zeros(CHANNELS), 0.0
        for number in np.linspace(0, len(self) - 1, min(clips, len(self))).astype(int):
            clip = self[number]
            moved = clip.channels[:, 1 : min(KEYFRAMES, clip.keys)] ** 2 * clip.cover
            total += moved.sum(axis=(1, 2, 3))
            weight += clip.cover.sum() * moved.shape[1]
        found = np.sqrt(total / max(weight, 1e-9))
        if not (found > 0).all():
            raise FashionFlowError(f"{self.folder}: no motion in these clips", hint="create them again")
        return tuple(float(f"{value:.5g}") for value in found)


@dataclass
class MotionBatch(Batched):
    """The clips of a step on one process; the first axis of every tensor is the clip.

    Attributes:
        latents: motion channels divided by their deviations, (b, 4, f, 40, 32).
        noise: noise, shape of `latents`.
        timestep: timestep of each clip, (b,) long.
        given: mask (b, f), 1 = given.
        keep: context mask, 0 where the context is dropped, (b,).
        content: photo channels, (b, 9, 40, 32).
        clip_pixels: input of the image encoder, (b, 3, s, s).
        cover: share of each cell with known channels, (b, 40, 32).
        known: mask (b, f), 1 = the clip contains this keyframe; others have no loss.
    """

    latents: Tensor
    noise: Tensor
    timestep: Tensor
    given: Tensor
    keep: Tensor
    content: Tensor
    clip_pixels: Tensor
    cover: Tensor
    known: Tensor


class MotionExamples(Examples):
    """One `Draw` → a `MotionBatch` of one clip."""

    def __getitem__(self, index: Any) -> MotionBatch:
        draw: Draw = index
        config, std = self.config, torch.tensor(self.model.latents_std)[:, None, None, None]
        random = stream(config.seed, "clip", draw.step, draw.slot)
        clip = self.clips[draw.item]
        given, start = draw_window(config, draw.frames, bool(clip.info["loop"]), random, clip.keys)
        keep = float(uniform(random) >= config.conditioning.context_dropout)
        timestep = self.timestep(draw, random)
        channels = torch.from_numpy(clip.channels[:, start : start + draw.frames])
        cover = torch.from_numpy(clip.cover)
        view = true = View(clip.photo, clip.matte, clip.parts, clip.inflation)
        if config.data.motion_augment and uniform(random) < 0.5:
            view = true = mirrored(true)
            channels, cover = mirrored_channels(channels), cover.flip(-1)
        if config.data.motion_augment:
            view = damaged(true, random) if uniform(random) < _DAMAGED else true
            view = recoloured(view, random)
        content, ratio = shown(view, true, clip.info["figure_height"])
        channels = torch.cat((channels[:2], channels[2:3] * ratio, channels[3:]))
        latents = (channels / std)[None]
        return MotionBatch(
            latents=latents,
            noise=torch.randn(latents.shape, generator=random),
            timestep=timestep,
            given=given[None],
            keep=torch.tensor([keep]),
            content=content[None],
            clip_pixels=clip_pixels(view.photo[None], self.processor, self.model),
            cover=cover[None],
            known=(torch.arange(start, start + draw.frames) < clip.keys).float()[None],
        )


def shown(view: View, true: View, figure_height: float) -> tuple[Tensor, Tensor]:
    """Photo channels of a view, and the factor on `b` that its inflation requires.

    Args:
        view: input of the network, with errors.
        true: view without errors, which the true channels belong to.
        figure_height: height of the figure in both, in rows.

    Returns:
        (9, 40, 32), and (40, 32): a surface that is inflated too much must move less per inflation for the same motion.
        The factor is the least-squares fit over each cell.
    """
    rows, columns = view.matte.shape
    box = FigureBox(0.0, 0.0, float(rows), float(columns), figure_height)
    e = _inflation(view, true) if view.inflation is None else view.inflation
    content = torch.from_numpy(photo_channels(view.photo, view.matte, view.parts, box, e))
    if e is true.inflation:
        return content, torch.ones(GRID)
    real = visible_e(true.matte, true.parts) if true.inflation is None else true.inflation
    fit = box.resample(np.stack([real * e, e * e], axis=-1), *GRID, outside=0.0)
    ratio = np.where(fit[..., 1] > 1e-3, fit[..., 0] / np.maximum(fit[..., 1], 1e-3), 1)
    return content, torch.from_numpy(np.clip(ratio, 0.4, 1.6).astype(np.float32))


def _inflation(view: View, true: View) -> np.ndarray:
    """Inflation of a view whose matte or parts are damaged, (h, w) pixels.

    Layers assign pixels that mix arm and body to the arm, and at this size those are many: the change caused by the
    damage is therefore applied to the inflation at the photo's own size.
    """
    e = visible_e(view.matte, view.parts)
    if view.parts is None or true.inflation is None:
        return e
    before = visible_e(true.matte, true.parts)
    return np.where(before > 0.2, true.inflation * np.clip(e / np.maximum(before, 0.2), 0, 3), e)


def draw_window(
    config: TrainConfig, frames: int, returns: bool, random: torch.Generator, keys: int = KEYS
) -> tuple[Tensor, int]:
    """Draw the mask of given keyframes, (f), 1 = given, and the first keyframe of the window.

    generate: the first, which is the photo. loop: the first and the last. extend: the first 2 to `extend_frames` of a
    window that begins later, in use the last of the previous window; a quarter of these also have a given last frame.

    Args:
        frames: keyframes per window.
        returns: whether the motion returns to the photo at the window's end.
        keys: known keyframes of the clip. A window that exceeds them begins with the photo, and only this is given.
    """
    mask = torch.zeros(frames)
    mask[0] = 1
    kind, length = uniform(random), 2 + whole(random, max(1, config.masks.extend_frames - 1))
    start, ends = 1 + whole(random, max(1, KEYS - frames)), uniform(random)
    if keys < KEYS:
        if keys <= frames:
            return mask, 0
        start = 1 + (start - 1) % (keys - frames)
    if kind >= config.masks.generate + config.masks.loop and config.masks.extend:
        mask[: min(length, frames - 1)] = 1
        mask[-1] = float(ends < 0.25)
        return mask, start
    if config.masks.loop and (kind >= config.masks.generate or (returns and ends < _LOOPING)):
        mask[-1] = 1
    return mask, 0


@dataclass
class MotionParts:
    """Networks of a motion model in training, without the parser, which is copied from the base model."""

    unet: FashionFlowUNet
    adapter: ImageContextAdapter
    image_encoder: CLIPVisionModel


class MotionTarget:
    """`Target` of motion models.

    Args:
        config: settings of the run.
        clips: training clips.
        base: folder of the model that provides the image encoder's shape, CLIP's preprocessing and, if present, the
            parser; with `init_from` also all initial weights.
        name: name of the result.
    """

    def __init__(self, config: TrainConfig, clips: MotionClips, base: Path, name: str) -> None:
        self.config, self.clips, self.base = config, clips, base
        of_base = ModelConfig.load(base)
        if config.init_from and of_base.latents != "motion":
            raise UsageError(
                f"init_from: {of_base.name} is not a motion model",
                hint="omit init_from to start from random weights",
            )
        self.frames = config.data.frames or KEYFRAMES
        if self.frames > KEYS:
            raise UsageError(f"data.frames: windows of {self.frames} keyframes are longer than clips of {KEYS}")
        std = of_base.latents_std if config.init_from else clips.deviations()
        self.model = model_config(config, of_base, name, std, self.frames)
        self.scheduler = noise_scheduler(config.noise, base)
        self.prediction: str = self.scheduler.config.prediction_type
        config.check_weighting(self.prediction)
        self.processor = load_processor(base)
        self.networks: Any = _loaded(base) if config.init_from else _fresh(config, base)
        networks = self.networks
        networks.adapter.requires_grad_(not config.lora.rank)
        networks.image_encoder.requires_grad_(config.train_image_encoder and not config.lora.rank)
        build.prepare_learning(config, networks.unet, networks.image_encoder)
        self.module = Conditioned(networks.unet, networks.adapter, networks.image_encoder, null=False)
        self.module.train()
        self.examples = MotionExamples(
            clips, config, self.model, self.processor, self.scheduler.config.num_train_timesteps
        )
        self.alphas_cumprod: Tensor = self.scheduler.alphas_cumprod

    def place(self, device: torch.device) -> None:
        self.alphas_cumprod = self.alphas_cumprod.to(device)
        self.module.to(device)

    def prepare(self, batch: MotionBatch) -> MotionBatch:
        return batch

    def losses(self, module: nn.Module, batch: MotionBatch) -> Tensor:
        abar = self.alphas_cumprod[batch.timestep]
        content = batch.content[:, :, None].expand(-1, -1, batch.given.shape[1], -1, -1)
        known = KnownFrames.from_clip(batch.latents, batch.given, content, self.model.mask_fill)
        noisy = add_noise(batch.latents, batch.noise, abar)
        prediction = module(known.network_input(noisy), batch.timestep, batch.clip_pixels, batch.content, batch.keep)
        target = target_of(batch.latents, batch.noise, abar, self.prediction)
        counted = (
            rearrange((1 - batch.given) * batch.known, "b f -> b 1 f 1 1") * (batch.cover + _OUTSIDE)[:, None, None]
        )
        error = (prediction.float() - target).square() * counted
        total = error.sum(dim=(1, 2, 3, 4)) / (CHANNELS * counted.sum(dim=(1, 2, 3, 4)))
        return timestep_weights(abar, self.prediction, self.config.loss) * total

    def noise_levels(self, batch: MotionBatch) -> Tensor:
        return levels_of(batch.timestep, len(self.alphas_cumprod))

    def write(self, folder: Path, dtype: torch.dtype) -> None:
        """All parts of a model folder, with the current weights."""
        write_model(self, folder, dtype, _PARTS)
        if (self.base / PARSER).is_dir():
            shutil.copytree(self.base / PARSER, folder / PARSER)


def model_config(
    config: TrainConfig, base: ModelConfig, name: str, std: tuple[float, ...], keyframes: int
) -> ModelConfig:
    """model.json of a motion model.

    Args:
        base: model.json of the base model, of either kind.
        name: name of the result, if the settings contain none.
        std: standard deviation of each channel.
        keyframes: keyframes per window.
    """
    return dataclasses.replace(
        base,
        name=config.name or name,
        purpose=config.purpose or build.purpose(),
        latents="motion",
        shift_gain=base.shift_gain if config.init_from else 1.0,
        latents_mean=(0.0,) * CHANNELS,
        latents_std=std,
        keyframes=keyframes,
        keyframe_seconds=SPACING,
        known_content="photo",
        mask_fill=config.conditioning.mask_fill or "nearest",
        modes=tuple(mode for mode in ("generate", "extend") if getattr(config.masks, mode)),
        interpolator=False,
        interpolate_scheduler="",
        interpolate_steps=0,
        interpolate_mixture=0.0,
        conditioning=("both",),
        context_dropout=config.conditioning.context_dropout,
        distilled=False,
        **build.sampling(config.sampler),
    )


def _loaded(base: Path) -> MotionParts:
    """The networks of a motion model in float32, for training."""
    kinds = (FashionFlowUNet, ImageContextAdapter, CLIPVisionModel)
    unet, adapter, encoder = (open_network(kind, base, part, torch.float32) for kind, part in zip(kinds, _PARTS))
    return MotionParts(unet, adapter, encoder)


def _fresh(config: TrainConfig, base: Path) -> MotionParts:
    """Networks with random weights from (seed); the image encoder has the base model's shape."""
    vision: Any = CLIPVisionConfig.from_pretrained(base / "image_encoder", local_files_only=True)
    tokens = (vision.image_size // vision.patch_size) ** 2 + 1
    levels = len(config.unet.widths)
    if not levels:
        raise UsageError("unet.widths: required for a motion model from random weights", hint="set preset: mini-motion")
    heads = config.unet.cross_heads or (1,) * levels
    # The weights are drawn from torch's global generator, whose state is restored.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        unet = FashionFlowUNet(
            in_channels=CHANNELS + PHOTO_CHANNELS + 1,
            out_channels=CHANNELS,
            block_out_channels=config.unet.widths,
            num_attention_heads=config.unet.heads or 4,
            attention_head_dim=config.unet.head_dim or 32,
            down_cross_attention_heads=heads,
            up_cross_attention_heads=heads[::-1],
            cross_attention_dim=vision.hidden_size,
            time_embedding_dim=config.unet.time_dim or 4 * config.unet.widths[0],
        )
        adapter = ImageContextAdapter(PHOTO_CHANNELS, *GRID, clip_tokens=tokens, clip_dim=vision.hidden_size)
        return MotionParts(unet, adapter, CLIPVisionModel(vision))
