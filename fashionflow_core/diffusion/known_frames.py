"""Known frames: which latent frames are given, and how they are pinned."""

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor


def nearest_given(mask: Tensor) -> Tensor:
    """Index of the nearest given frame for every frame; of two equally near the earlier.

    Args:
        mask: (b, f), 1 = given.

    Returns:
        (b, f) long; where an item has no given frame, each frame's own.
    """
    position = torch.arange(mask.shape[1], device=mask.device)
    distance = (position[:, None] - position[None, :]).abs()  # (f, f): from frame to candidate
    penalty = (1 - mask.float())[:, None, :] * 2 * mask.shape[1]  # (b, 1, f): never choose one that is not given
    return (distance[None] + penalty).argmin(dim=-1)


def between_given(mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For every frame the given frames around it, and how far it is from the one to the other.

    Args:
        mask: (b, f), 1 = given.

    Returns:
        index of the last given frame up to it and of the first from it on, each (b, f) long: of one side alone where
        there is none on the other, and each frame's own where an item has none; and the second one's weight, (b, f)
        in [0, 1], 0 at given frames.
    """
    frames = mask.shape[1]
    position = torch.arange(frames, device=mask.device).expand(mask.shape)
    before = torch.where(mask > 0, position, -1).cummax(dim=1).values
    after = torch.where(mask > 0, position, frames).flip(1).cummin(dim=1).values.flip(1)
    alone = (before < 0) & (after == frames)
    before, after = (
        torch.where(alone, position, torch.where(before < 0, after, before)),
        torch.where(alone, position, torch.where(after == frames, before, after)),
    )
    return before, after, (position - before) / (after - before).clamp(min=1) * (after > before)


def _at(x: Tensor, index: Tensor) -> Tensor:
    """Frames of `x` (b, k, f, h, w) at `index` (b, f)."""
    _, k, f, h, w = x.shape
    return x.gather(2, rearrange(index, "b f -> b 1 f 1 1").expand(-1, k, f, h, w))


@dataclass(frozen=True)
class KnownFrames:
    """Given latent frames of a clip.

    Attributes:
        mask: (b, f) float, 1 = given.
        latents: (b, c, f, h, w); zeros in frames that are not given.
        content: what the extra input channels show of the given frames, (b, k, f, h, w), zeros in the others; None for
            a network without mask channels.
        fill: what the extra channels hold where nothing is given: "zero" (paper 3.3), the "nearest" given frame, or the
            "linear" mixture of the given frames before and after it, which is the nearest where there is but one.
    """

    mask: Tensor
    latents: Tensor
    content: Tensor | None = None
    fill: str = "zero"

    @classmethod
    def from_clip(
        cls, latents: Tensor, mask: Tensor, content: Tensor | None = None, fill: str = "zero"
    ) -> "KnownFrames":
        """Keep the frames of a whole clip that `mask` (b, f) marks; blank the others."""
        keep = rearrange(mask, "b f -> b 1 f 1 1")
        return cls(mask, latents * keep, None if content is None else content * keep, fill)

    @classmethod
    def every(
        cls, latents: Tensor, stride: int, frames: int, content: Tensor | None = None, fill: str = "zero"
    ) -> "KnownFrames":
        """Frames 0, `stride`, 2 `stride` and so on are given: interpolation (paper 3.3: every second).

        Args:
            latents: the given ones, (b, c, g, h, w), with (g - 1) * stride below `frames`.
            frames: frames of the clip.
            content: of the given frames, (b, k, g, h, w).
        """
        places = torch.arange(latents.shape[2], device=latents.device) * stride

        def spread(x: Tensor) -> Tensor:
            return x.new_zeros(*x.shape[:2], frames, *x.shape[3:]).index_copy(2, places, x)  # (b, c, f, h, w)

        mask = torch.zeros(latents.shape[0], frames, device=latents.device)
        mask[:, places] = 1
        return cls(mask, spread(latents), None if content is None else spread(content), fill)

    @classmethod
    def first(cls, latent: Tensor, frames: int, content: Tensor | None = None, fill: str = "zero") -> "KnownFrames":
        """Only frame 0 is given: generation from one photo.

        Args:
            latent: (b, c, h, w).
            frames: frames of the clip.
            content: of that frame, (b, k, h, w).
        """

        return cls.every(latent[:, :, None], 1, frames, None if content is None else content[:, :, None], fill)

    @classmethod
    def nothing(cls, latent: Tensor, frames: int, content: Tensor | None = None, fill: str = "zero") -> "KnownFrames":
        """No frame is given: generation from the context alone. Arguments as for `first`; only their shapes count."""
        clip = cls.first(latent, frames, content, fill)
        return cls.from_clip(clip.latents, torch.zeros_like(clip.mask), clip.content, fill)

    def pin(self, sample: Tensor) -> Tensor:
        """`sample` (b, c, f, h, w) with the given frames put in.

        Call it on the network's *input*, after the scheduler's input scaling and before every call of the network:
        scaled with the rest, a given frame would reach an Euler sampler's network at 0.6 % of its size.
        """
        return torch.where(rearrange(self.mask, "b f -> b 1 f 1 1") > 0, self.latents.to(sample.dtype), sample)

    def sides(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The given frames before and after each frame, of one side alone that one twice, and the second one's weight.

        Args:
            x: of the given frames, such as `latents` or `content`, (b, k, f, h, w); others are not looked at.

        Returns:
            (b, k, f, h, w) twice, and (b, 1, f, 1, 1) in [0, 1], 0 at given frames.
        """
        before, after, part = between_given(self.mask)
        return _at(x, before), _at(x, after), rearrange(part, "b f -> b 1 f 1 1").to(x)

    def mixed(self, x: Tensor) -> Tensor:
        """The linear mixture of `sides`, (b, k, f, h, w)."""
        # lerp is exact at the ends: given frames, and all beyond them, stay as they are.
        return torch.lerp(*self.sides(x))

    def interpolator_input(self) -> Tensor:
        """What `ModelConfig.interpolator` takes, (b, 2c + 1, f, h, w): the latents of `sides`, and the weight."""
        before, after, part = self.sides(self.latents)
        return torch.cat((before, after, part.expand_as(before[:, :1])), dim=1)

    def channels(self) -> Tensor | None:
        """The extra input channels (b, k + 1, f, h, w): content of the given frames, and the mask; or None.

        An item without a given frame has zeros in all of them, whatever the fill.
        """
        if self.content is None:
            return None
        content = self.content
        if self.fill == "nearest":
            content = _at(content, nearest_given(self.mask))
        elif self.fill == "linear":
            content = self.mixed(content)
        mask = rearrange(self.mask, "b f -> b 1 f 1 1").expand(-1, 1, *content.shape[2:])
        return torch.cat((content, mask.to(content.dtype)), dim=1)

    def network_input(self, sample: Tensor) -> Tensor:
        """Pinned sample and extra channels together: what the denoiser takes, (b, c_in, f, h, w)."""
        pinned = self.pin(sample)
        extra = self.channels()
        return pinned if extra is None else torch.cat((pinned, extra.to(pinned.dtype)), dim=1)
