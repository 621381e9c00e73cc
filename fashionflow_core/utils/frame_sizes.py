"""Frame sizes that video models can generate, and the one nearest to a photo's shape."""

from dataclasses import dataclass

_MOST_OVER = 1.1  # of the pixel budget


@dataclass(frozen=True)
class FrameSizes:
    """Sizes of frames that a model generates.

    Attributes:
        pixels: budget: height times width of a frame, at most a tenth more.
        divisor: both sides are multiples of it.
        fixed: (height, width), where the model has one size alone.
        bucket: side of the square that a model's list of sizes is made from; 0: it has no such list. Its sides are
            multiples of `divisor`.
    """

    pixels: int
    divisor: int
    fixed: tuple[int, int] | None = None
    bucket: int = 0

    def nearest(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) for a photo of `height` x `width`, in which it leaves the narrowest bars."""
        if self.fixed is not None:
            return self.fixed
        if self.bucket:
            return _nearest_bucket(height, width, self.bucket, self.divisor)
        scale = (self.pixels / (height * width)) ** 0.5
        rows, columns = (max(1, int(side * scale / self.divisor)) for side in (height, width))
        steps = [(r, c) for r in (rows, rows + 1) for c in (columns, columns + 1)]
        sizes = [(r * self.divisor, c * self.divisor) for r, c in steps]
        fitting = [size for size in sizes if size[0] * size[1] <= self.pixels * _MOST_OVER] or sizes[:1]
        return min(fitting, key=lambda size: (round(_bars(height / width, *size), 3), -size[0] * size[1]))

    def check(self, height: int, width: int) -> str | None:
        """What is wrong with a size that was asked for: what to use instead, or None."""
        if self.fixed is not None:
            return None if (height, width) == self.fixed else f"{self.fixed[0]}x{self.fixed[1]}"
        if self.bucket:
            near = _nearest_bucket(height, width, self.bucket, self.divisor)
        else:
            near = tuple(max(1, round(side / self.divisor)) * self.divisor for side in (height, width))
        return None if (height, width) == near else f"{near[0]}x{near[1]}"


def _bars(aspect: float, height: int, width: int) -> float:
    """Share of a frame that is left beside a photo of this aspect (height / width)."""
    frame = height / width
    return 1 - min(frame / aspect, aspect / frame)


def _nearest_bucket(height: int, width: int, side: int, step: int) -> tuple[int, int]:
    """A size that diffusers' `HunyuanVideo15ImageProcessor.calculate_default_height_width` keeps as it is.

    That function chooses a size for any picture and the pipeline crops to it. It compares ratios that are rounded to
    five digits with unrounded ones, so that a few of its sizes are not their own nearest ones; those are left out.
    """
    count = round((side / step) ** 2)
    sizes, across, down = [], count, 1
    while across > 0:
        if max(across, down) / min(across, down) <= 4:
            sizes.append((across * step, down * step))
        if (down + 1) * across <= count:
            down += 1
        else:
            across -= 1
    sizes = [size for size in sizes if _is_below(round(size[0] / size[1], 5), size[0] / size[1])]
    aspect = height / width
    ratios = [round(one / other, 5) for one, other in sizes]
    # Beyond the most elongated size the upstream function finds none; the photo is padded into the last one.
    allowed = [n for n, ratio in enumerate(ratios) if _is_below(ratio, aspect)]
    return sizes[min(allowed or range(len(sizes)), key=lambda n: abs(ratios[n] - aspect))]


def _is_below(ratio: float, aspect: float) -> bool:
    """Whether a size of this ratio is less elongated than a picture of this aspect."""
    return ratio <= aspect if aspect >= 1 else ratio >= aspect
