"""The VAE of `mini`: a diffusers AutoencoderKL that starts as an exact PCA of 8x8 patches; its decoder is trained on.

From scratch such a network stalls far below the PCA it should beat. Here it *is* the PCA before the first step: all
residual branches start at zero, and the two places where AutoencoderKL is not linear on the main path are undone:

- SiLU: `silu(x) - silu(-x) = x`, so every component travels as a pair of channels of opposite sign;
- GroupNorm: two constant channels of +M and -M, M far above the signal, fix mean and variance, so that the norm is a
  division by a known number, and its gain multiplies it back.
"""

import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.training_utils import EMAModel
from einops import rearrange
from mini_recipe import RECIPE, Paths
from torch import Tensor, nn

CONSTANT = 60.0  # M: the signal has deviation 1, so the norm's divisor varies by about 0.1 % between images


# Any below: diffusers annotates `encode`, `decode` and `from_pretrained` narrower than they are.
def build_vae() -> Any:
    """An AutoencoderKL with random weights: one level, no attention, at latent resolution throughout."""
    channels = 3 * RECIPE.patch**2
    return AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        latent_channels=RECIPE.latent_channels,
        block_out_channels=(RECIPE.vae_width,),
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
        layers_per_block=1,
        norm_num_groups=1,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=1.0,
        sample_size=RECIPE.latent_size[0],
    )


def load_vae(paths: Paths) -> Any:
    """The VAE of a run as it stands."""
    kind: Any = AutoencoderKL
    return kind.from_pretrained(paths.vae)


def patches(frames: Tensor) -> Tensor:
    """uint8 (b, h, w, 3) → what the VAE reads, [-1, 1] (b, 3 p², h/p, w/p); as `conditioning.to_vae_pixels`."""
    x = rearrange(frames, "b (h p1) (w p2) c -> b (c p1 p2) h w", p1=RECIPE.patch, p2=RECIPE.patch)
    return x.float() / 127.5 - 1


def pca(frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (d), components (k, d) and their deviations (k) of all patches of the frames."""
    x = rearrange(patches(frames), "b d h w -> (b h w) d").double()
    mean = x.mean(dim=0)
    values, vectors = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    k = RECIPE.latent_channels
    return mean.float(), vectors[:, -k:].flip(1).T.float(), values[-k:].flip(0).sqrt().float()


@torch.no_grad()
def start_from_pca(vae: Any, mean: Tensor, components: Tensor, deviation: Tensor) -> None:
    """Set the weights so that encode and decode are exactly the PCA (latents whitened)."""
    k, width = len(components), RECIPE.vae_width
    constants = slice(2 * k, 2 * k + 2)  # after the pairs
    ordinary = width - 2 * k - 2
    # Variance over all channels of the one group: pairs and the rest have about 1 each, the constants M² each.
    gain = math.sqrt((2 * CONSTANT**2 + 2 * k + ordinary) / width)

    def carry(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
        """`conv` puts `weight @ x + bias` into the pairs and M into the constants."""
        assert conv.bias is not None
        conv.weight[: 2 * k + 2] = 0
        conv.bias.zero_()
        conv.weight[:k, :, 1, 1], conv.weight[k : 2 * k, :, 1, 1] = weight, -weight
        conv.bias[:k], conv.bias[k : 2 * k] = bias, -bias
        conv.bias[constants] = torch.tensor([CONSTANT, -CONSTANT])

    def undo(norm: nn.GroupNorm) -> None:
        norm.weight.fill_(gain)
        norm.weight[constants] = 0
        norm.bias.zero_()

    whiten = components / deviation[:, None]
    carry(vae.encoder.conv_in, whiten, -whiten @ mean)
    carry(vae.decoder.conv_in, torch.eye(k), torch.zeros(k))
    for module in vae.modules():
        if type(module).__name__ == "ResnetBlock2D":
            undo(module.norm1)
            nn.init.zeros_(module.conv2.weight)
            nn.init.zeros_(module.conv2.bias)
    for part in (vae.encoder, vae.decoder):
        undo(part.conv_norm_out)
        part.conv_out.weight.zero_()
    vae.encoder.conv_out.weight[:k, :k, 1, 1] = torch.eye(k)
    vae.encoder.conv_out.weight[:k, k : 2 * k, 1, 1] = -torch.eye(k)
    vae.encoder.conv_out.bias[:k] = 0
    vae.encoder.conv_out.bias[k:] = -5.0  # posterior deviation 0.08: little noise to start with
    unwhiten = (components * deviation[:, None]).T  # (d, k)
    vae.decoder.conv_out.weight[:, :k, 1, 1] = unwhiten
    vae.decoder.conv_out.weight[:, k : 2 * k, 1, 1] = -unwhiten
    vae.decoder.conv_out.bias.copy_(mean)


def psnr(vae: Any, frames: Tensor) -> float:
    """Mean over frames of the reconstruction's PSNR in dB, 8-bit peak."""
    values = []
    with torch.no_grad():
        for batch in frames.split(8):
            x = patches(batch).to(vae.device)
            y = vae.decode(vae.encode(x).latent_dist.mean).sample.clamp(-1, 1)
            mse = ((x - y) * 127.5).square().mean(dim=(1, 2, 3))
            values += (10 * torch.log10(255**2 / mse)).tolist()
    return float(np.mean(values))


def sample_frames(paths: Paths, clips: int, per_clip: int) -> Tensor:
    """Some frames of the first rendered clips, uint8 (n, h, w, 3)."""
    files = sorted(paths.clips.glob("*.npy"))[:clips]
    rng = np.random.default_rng(0)
    chosen = []
    for file in files:
        clip = np.load(file, mmap_mode="r")
        chosen.append(clip[np.sort(rng.choice(len(clip), per_clip, replace=False))])
    return torch.from_numpy(np.concatenate(chosen))


def _batches(frames: Tensor, size: int, crop: int) -> Iterator[Tensor]:
    """Random patch-aligned crops, forever."""
    generator = torch.Generator().manual_seed(1)
    p = RECIPE.patch
    while True:
        index = torch.randint(len(frames), (size,), generator=generator)
        top = p * int(torch.randint((RECIPE.height - crop) // p + 1, (1,), generator=generator))
        left = p * int(torch.randint((RECIPE.width - crop) // p + 1, (1,), generator=generator))
        batch = frames[index, top : top + crop, left : left + crop]
        yield batch.flip(2) if torch.rand((), generator=generator) < 0.5 else batch


def start_vae(paths: Paths, clips: int = 400, per_clip: int = 2) -> None:
    """Save the VAE as it starts: the PCA of the rendered frames. Its encoder is final, so clips can be encoded now."""
    frames = sample_frames(paths, clips, per_clip)
    vae = build_vae()
    start_from_pca(vae, *pca(frames))
    print(f"vae: PCA of {len(frames)} frames, {psnr(vae, frames[:: max(1, len(frames) // 64)]):.2f} dB", flush=True)
    vae.save_pretrained(paths.vae)


def train_decoder(
    paths: Paths,
    seconds: float,
    device: str,
    *,
    clips: int = 400,
    per_clip: int = 8,
    batch: int = 16,
    crop: int = 160,
    lr: float = 2e-4,
    noise: float = 0.15,
) -> None:
    """Train the decoder for a time and save its averaged weights; prints PSNR on held-out clips as it goes.

    The encoder stays the PCA: whatever the decoder learns, the latents that the U-Net is trained on stay valid, and the
    two can be trained in any order or at once.

    Args:
        noise: deviation of the noise added to the whitened latents, so that the decoder forgives a denoiser's errors.
    """
    frames = sample_frames(paths, clips, per_clip)
    split = len(frames) - max(1, min(64, len(frames) // 10))
    frames, held_out = frames[:split], frames[split:]
    vae = load_vae(paths).to(device)
    vae.encoder.requires_grad_(False)
    print(f"decoder: starts at {psnr(vae, held_out):.2f} dB on {len(held_out)} held-out frames", flush=True)
    parameters = list(vae.decoder.parameters())
    ema = EMAModel(parameters, decay=0.998)
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.99), weight_decay=0)
    began, step, last = time.monotonic(), 0, 0.0
    for pixels in _batches(frames, batch, crop):
        elapsed = time.monotonic() - began
        if elapsed > seconds:
            break
        for group in optimizer.param_groups:  # warm-up over 200 steps, then a cosine over the time there is
            cosine = 0.5 * (1 + math.cos(math.pi * elapsed / seconds))
            group["lr"] = lr * min(1, (step + 1) / 200) * (0.02 + 0.98 * cosine)
        x = patches(pixels).to(device)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            with torch.no_grad():
                latents = vae.encode(x).latent_dist.mean
            y = vae.decode(latents + noise * torch.randn_like(latents)).sample.float()
        # L1 keeps edges, the square keeps the PSNR.
        loss = (x - y).abs().mean() + 2 * (x - y).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
        ema.step(parameters)
        step += 1
        if elapsed - last > 60:
            last = elapsed
            print(
                f"decoder: {elapsed:5.0f} s, step {step}, loss {loss.item():.4f}, {psnr(vae, held_out):.2f} dB",
                flush=True,
            )
    ema.copy_to(parameters)
    print(f"decoder: {step} steps, {psnr(vae, held_out):.2f} dB with averaged weights", flush=True)
    vae.save_pretrained(paths.vae)
