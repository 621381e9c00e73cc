"""Random generators of training, keyed by seed and purpose.

Draws are identical for resumed runs and for any number of processes or readers.
"""

import hashlib

import torch


def stream(seed: int, purpose: str, *numbers: int) -> torch.Generator:
    """A separate CPU generator for each name."""
    name = "/".join(map(str, (seed, purpose, *numbers)))
    # torch's CPU generator uses 32 bits of its seed.
    return torch.Generator("cpu").manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]))


def uniform(generator: torch.Generator) -> float:
    """A random number in [0, 1)."""
    return float(torch.rand((), generator=generator, dtype=torch.float64))


def whole(generator: torch.Generator, below: int) -> int:
    """A random integer in [0, below)."""
    return int(torch.randint(below, (), generator=generator))


class Shuffle:
    """Index of the item of the n-th draw: every epoch visits all items once, in its own order."""

    def __init__(self, seed: int, items: int) -> None:
        self.seed, self.items = seed, items
        self._epoch, self._order = -1, torch.empty(0)

    def __getitem__(self, draw: int) -> int:
        epoch, place = divmod(draw, self.items)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = torch.randperm(self.items, generator=stream(self.seed, "order", epoch))
        return int(self._order[place])
