"""Known frames: mask, latents and pinning of given frames."""

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor


def nearest_given(mask: Tensor) -> Tensor:
    """Index of the nearest given frame for every frame; the earlier one on ties.

    Args:
        mask: (b, f), 1 = given.

    Returns:
        (b, f) long; each frame's own index if an item has no given frame.
    """
    position = torch.arange(mask.shape[1], device=mask.device)
    distance = (position[:, None] - position[None, :]).abs()  # (f, f): from frame to candidate
    penalty = (1 - mask.float())[:, None, :] * 2 * mask.shape[1]  # (b, 1, f): excludes frames that are not given
    return (distance[None] + penalty).argmin(dim=-1)


def between_given(mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Surrounding given frames of every frame, and its relative position between them.

    Args:
        mask: (b, f), 1 = given.

    Returns:
        Index of the last given frame up to each frame and of the first from it on, each (b, f) long (equal if there is
        only one side, the frame's own index if an item has none), and the weight of the second one, (b, f) in [0, 1], 0
        at given frames.
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
        latents: (b, c, f, h, w); zeros in other frames.
        content: content of the extra input channels, (b, k, f, h, w), zeros in other frames; None for
            a network without mask channels.
        fill: content of the extra channels in other frames: "zero" (paper 3.3), the "nearest" given frame, or the
            "linear" mixture of the given frames before and after (the nearest if there is only one side).
    """

    mask: Tensor
    latents: Tensor
    content: Tensor | None = None
    fill: str = "zero"

    @classmethod
    def from_clip(
        cls, latents: Tensor, mask: Tensor, content: Tensor | None = None, fill: str = "zero"
    ) -> "KnownFrames":
        """Keep the frames of a full clip where `mask` (b, f) is 1; blank the others."""
        keep = rearrange(mask, "b f -> b 1 f 1 1")
        return cls(mask, latents * keep, None if content is None else content * keep, fill)

    @classmethod
    def every(
        cls, latents: Tensor, stride: int, frames: int, content: Tensor | None = None, fill: str = "zero"
    ) -> "KnownFrames":
        """Given frames 0, `stride`, 2 `stride` etc.: interpolation (paper 3.3: every second).

        Args:
            latents: given latents, (b, c, g, h, w), with (g - 1) * stride below `frames`.
            frames: number of frames of the clip.
            content: content of the given frames, (b, k, g, h, w).
        """
        places = torch.arange(latents.shape[2], device=latents.device) * stride

        def spread(x: Tensor) -> Tensor:
            return x.new_zeros(*x.shape[:2], frames, *x.shape[3:]).index_copy(2, places, x)  # (b, c, f, h, w)

        mask = torch.zeros(latents.shape[0], frames, device=latents.device)
        mask[:, places] = 1
        return cls(mask, spread(latents), None if content is None else spread(content), fill)

    @classmethod
    def first(cls, latent: Tensor, frames: int, content: Tensor | None = None, fill: str = "zero") -> "KnownFrames":
        """Only frame 0 given: generation from one photo.

        Args:
            latent: latent of frame 0, (b, c, h, w).
            frames: number of frames of the clip.
            content: content of that frame, (b, k, h, w).
        """

        return cls.every(latent[:, :, None], 1, frames, None if content is None else content[:, :, None], fill)

    @classmethod
    def nothing(cls, latent: Tensor, frames: int, content: Tensor | None = None, fill: str = "zero") -> "KnownFrames":
        """No given frame: generation from the context only. Arguments as in `first`; only their shapes are used."""
        clip = cls.first(latent, frames, content, fill)
        return cls.from_clip(clip.latents, torch.zeros_like(clip.mask), clip.content, fill)

    def pin(self, sample: Tensor) -> Tensor:
        """Return `sample` (b, c, f, h, w) with the given frames inserted.

        Call it on the network's *input*, after the scheduler's input scaling and before every call of the network:
        scaled with the rest, an Euler sampler would reduce a given frame to 0.6 %.
        """
        return torch.where(rearrange(self.mask, "b f -> b 1 f 1 1") > 0, self.latents.to(sample.dtype), sample)

    def sides(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The given frames before and after each frame (equal if there is one side only), and the weight of the second.

        Args:
            x: values at given frames, such as `latents` or `content`, (b, k, f, h, w); other frames are ignored.

        Returns:
            (b, k, f, h, w) twice, and (b, 1, f, 1, 1) in [0, 1], 0 at given frames.
        """
        before, after, part = between_given(self.mask)
        return _at(x, before), _at(x, after), rearrange(part, "b f -> b 1 f 1 1").to(x)

    def mixed(self, x: Tensor) -> Tensor:
        """The linear mixture of `sides`, (b, k, f, h, w)."""
        # lerp is exact at the ends: given frames and all beyond them are unchanged.
        return torch.lerp(*self.sides(x))

    def interpolator_input(self) -> Tensor:
        """Input of the interpolator, (b, 2c + 1, f, h, w): the latents of `sides`, and the weight."""
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
        """Input of the denoiser: pinned sample and extra channels, (b, c_in, f, h, w)."""
        pinned = self.pin(sample)
        extra = self.channels()
        return pinned if extra is None else torch.cat((pinned, extra.to(pinned.dtype)), dim=1)
