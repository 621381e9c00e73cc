"""Train the figure parser of the bundled model on synthetic figures; about half an hour on one CPU core.

    python scripts/train_parser.py draw runs/parser --count 3500
    python scripts/train_parser.py train runs/parser -o fashionflow_core/assets/mini/parser

Drawing keeps finished files, training its latest state: run the same command again to resume. Training reads the
existing files, so that both can run at the same time. `--init-from` starts from trained weights, at full size from the
first step; use a lower `--rate` with it.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fashionflow_core.images.parts import PARTS
from fashionflow_core.models.parser import FigureParser
from fashionflow_core.training.parser_data import SWAPPED, parser_sample

PIECE = 100  # images per file
# Small parts count as much as large ones, in about the order of PARTS' pixels.
PART_WEIGHTS = torch.tensor([0.4, 1.6, 1.8, 2.0, 2.0, 1.0, 0.8, 1.4, 2.5])
RATE = 4e-3
SMALL_STEPS = 1000  # first steps at half size, which process four times as many images in the same time


def draw(folder: Path, count: int, first: int) -> None:
    """Draw the images of seeds `first` to `first + count` into `folder`, one file per PIECE."""
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(first, first + count, PIECE):
        path = folder / f"{start:07d}.npz"
        if path.exists():
            continue
        samples = [parser_sample(seed) for seed in range(start, start + PIECE)]
        partial = path.with_suffix(".partial.npz")
        np.savez(
            partial,
            photo=np.stack([sample.photo for sample in samples]),
            alpha=np.stack([sample.alpha for sample in samples]),
            parts=np.stack([sample.parts for sample in samples]),
        )
        partial.rename(path)
        print(f"{path}: {PIECE} images", flush=True)


class Pictures:
    """The drawn images of a folder, including new ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pieces: dict[Path, dict[str, Tensor]] = {}

    def batch(self, size: int, rng: np.random.Generator, small: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Photos (b, 3, h, w) 0..1, alphas (b, 1, h, w) 0..1 and parts (b, h, w), augmented; half the size if small."""
        for path in sorted(self.folder.glob("*.npz")):
            if path not in self.pieces and ".partial" not in path.name:
                with np.load(path) as stored:
                    self.pieces[path] = {name: torch.from_numpy(stored[name]) for name in stored.files}
        if not self.pieces:
            raise SystemExit(f"{self.folder}: no drawn images; run the draw command first")
        pieces = list(self.pieces.values())
        chosen = [(pieces[int(rng.integers(len(pieces)))], int(rng.integers(PIECE))) for _ in range(size)]
        photo = torch.stack([piece["photo"][index] for piece, index in chosen])
        photo = photo.permute(0, 3, 1, 2).float() / 255
        alpha = torch.stack([piece["alpha"][index] for piece, index in chosen])[:, None].float() / 255
        parts = torch.stack([piece["parts"][index] for piece, index in chosen]).long()
        if small:
            photo, alpha, parts = F.avg_pool2d(photo, 2), F.avg_pool2d(alpha, 2), parts[:, ::2, ::2]
        swapped = torch.from_numpy(SWAPPED.astype(np.int64))
        for item in range(size):
            if rng.random() < 0.5:
                photo[item], alpha[item] = photo[item].flip(-1), alpha[item].flip(-1)
                parts[item] = swapped[parts[item].flip(-1)]
            if rng.random() < 0.05:
                photo[item] = photo[item, torch.from_numpy(rng.permutation(3))]
        gain = torch.from_numpy(rng.uniform(0.8, 1.2, (size, 1, 1, 1)) * rng.uniform(0.94, 1.06, (size, 3, 1, 1)))
        power = torch.from_numpy(rng.uniform(0.8, 1.25, (size, 1, 1, 1)))
        return (photo * gain.float()).clamp_(0, 1).pow_(power.float()), alpha, parts


def parser_loss(logits: Tensor, alpha: Tensor, parts: Tensor) -> Tensor:
    """Cross-entropies of matte and parts, and one minus the matte's soft Dice coefficient."""
    alpha = F.avg_pool2d(alpha, 2)
    shares = F.avg_pool2d(F.one_hot(parts, len(PARTS)).permute(0, 3, 1, 2).float(), 2)
    matte = logits[:, :1]
    share = torch.sigmoid(matte)
    dice = 1 - (2 * (share * alpha).sum(dim=(1, 2, 3)) + 1) / ((share + alpha).sum(dim=(1, 2, 3)) + 1)
    weighted = shares * PART_WEIGHTS[None, :, None, None]
    parts_loss = -(weighted * logits[:, 1:].log_softmax(dim=1)).sum() / weighted.sum()
    return F.binary_cross_entropy_with_logits(matte, alpha) + 0.5 * dice.mean() + parts_loss


def train(
    folder: Path, target: Path, steps: int, batch: int, seed: int, init_from: Path | None = None, highest: float = RATE
) -> None:
    """Train for `steps` in total, from `folder`'s latest state, and save the averaged weights in fp16."""
    torch.manual_seed(seed)
    first = FigureParser.from_pretrained(init_from).float().train() if init_from else FigureParser()
    model = first.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    average = FigureParser()
    average.load_state_dict(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=highest, weight_decay=1e-3)
    state_path, step = folder / "state.pt", 0
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step = int(state["step"])
    pictures, begun, losses = Pictures(folder), time.perf_counter(), []
    while step < steps:
        rng = np.random.Generator(np.random.PCG64([seed, step]))
        small = init_from is None and step < SMALL_STEPS
        photo, alpha, parts = pictures.batch(2 * batch if small else batch, rng, small)
        rate = highest * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * step / steps)) + 1e-5
        optimizer.param_groups[0]["lr"] = rate
        loss = parser_loss(model(photo.contiguous(memory_format=torch.channels_last)), alpha, parts)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        step += 1
        losses.append(loss.item())
        _average(average, model, min(0.995, step / (step + 10)))
        if step % 50 == 0:
            print(f"step {step} loss {np.mean(losses[-50:]):.4f} {time.perf_counter() - begun:.0f} s", flush=True)
        if step % 200 == 0 or step == steps:
            state = {"model": model.state_dict(), "average": average.state_dict()}
            partial = state_path.with_suffix(".partial")
            torch.save({**state, "optimizer": optimizer.state_dict(), "step": step}, partial)
            partial.rename(state_path)
            save(average, target)
    save(average, target)


@torch.no_grad()
def _average(average: nn.Module, model: nn.Module, keep: float) -> None:
    for mean, value in zip(average.state_dict().values(), model.state_dict().values()):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - keep)


def save(model: FigureParser, target: Path) -> None:
    """Write config.json and fp16 safetensors."""
    stored = FigureParser(**{name: value for name, value in model.config.items() if name in ("widths", "parts")})
    stored.load_state_dict(model.state_dict())
    stored.half().save_pretrained(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    drawing = commands.add_parser("draw", help="draw training images")
    drawing.add_argument("folder", type=Path)
    drawing.add_argument("--count", type=int, default=3500)
    drawing.add_argument("--first", type=int, default=0, help="first seed")
    training = commands.add_parser("train", help="train on the images of a folder")
    training.add_argument("folder", type=Path)
    training.add_argument("-o", "--output", type=Path, required=True, help="folder of the trained network")
    training.add_argument("--steps", type=int, default=2500)
    training.add_argument("--batch", type=int, default=12)
    training.add_argument("--seed", type=int, default=0)
    training.add_argument("--init-from", type=Path, help="folder of a trained network")
    training.add_argument("--rate", type=float, default=RATE, help="highest learning rate")
    choice = parser.parse_args()
    torch.set_num_threads(1)
    if choice.command == "draw":
        draw(choice.folder, choice.count, choice.first)
    else:
        train(choice.folder, choice.output, choice.steps, choice.batch, choice.seed, choice.init_from, choice.rate)


if __name__ == "__main__":
    main()
