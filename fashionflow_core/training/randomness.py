"""Random streams of training, named by seed and purpose.

So a resumed run, another number of processes or of readers draws exactly the same.
"""

import hashlib

import torch


def stream(seed: int, purpose: str, *numbers: int) -> torch.Generator:
    """A CPU generator of its own for each name."""
    name = "/".join(map(str, (seed, purpose, *numbers)))
    # Torch's CPU generator keeps 32 bits of its seed.
    return torch.Generator("cpu").manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]))


def uniform(generator: torch.Generator) -> float:
    """One number in [0, 1)."""
    return float(torch.rand((), generator=generator, dtype=torch.float64))


def whole(generator: torch.Generator, below: int) -> int:
    """One whole number in [0, below)."""
    return int(torch.randint(below, (), generator=generator))


class Shuffle:
    """Which item the n-th draw takes: every epoch goes once through all of them, in an order of its own."""

    def __init__(self, seed: int, items: int) -> None:
        self.seed, self.items = seed, items
        self._epoch, self._order = -1, torch.empty(0)

    def __getitem__(self, draw: int) -> int:
        epoch, place = divmod(draw, self.items)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = torch.randperm(self.items, generator=stream(self.seed, "order", epoch))
        return int(self._order[place])
