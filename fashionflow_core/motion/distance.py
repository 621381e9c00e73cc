"""Distance between motions of variations."""

from torch import Tensor


def motion_distance(first: Tensor, second: Tensor) -> float:
    """Root mean square difference of two motions, relative to their root mean square, averaged over channels.

    Args:
        first, second: motion channels (c, n, h, w) at the same times.

    Returns:
        0 for equal motions, about 1.4 for independent ones of one size, 2 for opposite ones.
    """
    dims = (1, 2, 3)
    difference = (first - second).square().mean(dim=dims)
    both = (first.square().mean(dim=dims) + second.square().mean(dim=dims)) / 2
    moves = both > 0
    if not bool(moves.any()):
        return 0.0
    return float((difference[moves] / both[moves]).mean().sqrt())


class Variations:
    """Motions of previous variations of the latest photo."""

    def __init__(self) -> None:
        self._key: object = None
        self._motions: list[Tensor] = []

    def add(self, key: object, latents: Tensor) -> float | None:
        """Distance of a variation from the nearest previous one.

        Args:
            key: key of the photo.
            latents: `Clip.latents` of a motion model, (1, c, n, h, w).

        Returns:
            None for the first variation of a photo, and for camera motion.
        """
        if key != self._key:
            self._key, self._motions = key, []
        if latents.ndim != 5:
            return None
        motion = latents[0].float().cpu()
        alike = [other for other in self._motions if other.shape == motion.shape]
        self._motions.append(motion)
        return min((motion_distance(motion, other) for other in alike), default=None)
