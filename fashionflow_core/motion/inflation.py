"""Inflation of a matte to a surface: height at each pixel.

``e = sqrt(u)`` with ``laplacian(u) = -2`` inside the matte and ``u = 0`` outside. A strip of half width R inflates
to the exact circle ``sqrt(R^2 - x^2)``; a disc to ``sqrt((R^2 - r^2) / 2)``. Where the matte is cut off by the
photo's border the figure continues outside: there the surface is open (zero slope) instead of closed.
"""

import numpy as np
import torch
import torch.nn.functional as F

COARSEST = 4
"""Shorter side in pixels at which the coarse-to-fine solution starts."""
DAMPING = 0.8
"""Relaxation factor of Jacobi steps, the best at damping high frequencies."""
CYCLES = 3
"""Multigrid cycles at each level, from coarse to fine."""

Sides = tuple[bool, bool, bool, bool]


def inflate(alpha: np.ndarray) -> np.ndarray:
    """Half thickness of the figure in pixels, ``float32 (h, w)``, for a matte ``(h, w)`` in 0..1 of any size."""
    alpha = np.asarray(alpha, np.float32)
    if alpha.ndim != 2:
        raise ValueError(f"expected a matte (h, w), got shape {alpha.shape}")
    e = np.zeros(alpha.shape, np.float32)
    # Only the figure's box is solved.
    rows, columns = (np.flatnonzero((alpha > 0.05).any(axis)) for axis in (1, 0))
    if not len(rows):
        return e
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    box = (slice(top, bottom), slice(left, right))
    # sides of the box on the photo's border, where the surface is open: top, bottom, left, right
    cut = (top == 0, bottom == alpha.shape[0], left == 0, right == alpha.shape[1])
    # a soft pixel is inside from about half coverage
    mask = torch.from_numpy(np.clip(alpha[box] * 1.2 - 0.1, 0, 1))
    e[box] = _solve(mask, cut).clamp_(min=0).sqrt_().numpy()
    return e


def _solve(mask: torch.Tensor, cut: Sides) -> torch.Tensor:
    """u at the finest level: full multigrid, each coarse level starting the next one near its solution."""
    levels = [mask]
    while min(levels[-1].shape) > 2 * COARSEST:
        levels.append(_halved(levels[-1], cut))
    u = torch.zeros_like(levels[-1])
    for depth in range(len(levels) - 1, -1, -1):
        if depth < len(levels) - 1:
            u = _doubled(u, levels[depth]) * levels[depth]
        source = torch.full_like(levels[depth], 0.5 * 4.0**depth)  # -laplacian * step^2 / 4
        for _ in range(CYCLES):
            u = _cycle(u, source, levels[depth:], cut)
    return u


def _cycle(u: torch.Tensor, source: torch.Tensor, levels: list[torch.Tensor], cut: Sides) -> torch.Tensor:
    """One V cycle for u = (mean of the four neighbours + source) * mask."""
    mask = levels[0]
    if len(levels) == 1:
        return _relaxed(u, source, mask, cut, 60, 1.0)[0]
    u, rest = _relaxed(u, source, mask, cut, 3, DAMPING)
    coarse = _halved(rest, cut) * 4  # the step is twice as long
    correction = _cycle(torch.zeros_like(coarse), coarse, levels[1:], cut)
    u = u + _doubled(correction, mask) * mask
    return _relaxed(u, source, mask, cut, 4, DAMPING)[0]


def _halved(image: torch.Tensor, cut: Sides) -> torch.Tensor:
    h, w = image.shape
    padded = F.pad(image[None, None], (0, w % 2, 0, h % 2), mode="replicate")[0, 0]
    if h % 2 and not cut[1]:
        padded[-1] = 0
    if w % 2 and not cut[3]:
        padded[:, -1] = 0
    return F.avg_pool2d(padded[None, None], 2)[0, 0]


def _doubled(image: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    h, w = like.shape
    return F.interpolate(image[None, None], scale_factor=2, mode="bilinear", align_corners=False)[0, 0, :h, :w]


def _relaxed(
    u: torch.Tensor, source: torch.Tensor, mask: torch.Tensor, cut: Sides, sweeps: int, damping: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """u after Jacobi sweeps, and the residual. Slices are ten times faster than conv2d here."""
    h, w = u.shape
    p = torch.zeros(h + 2, w + 2)
    inside = p[1:-1, 1:-1]
    inside.copy_(u)
    quarter = mask * 0.25
    source = mask * source
    rest = torch.empty_like(u)
    # an edge row equal to its neighbour is zero slope; a row of zeros closes the surface
    edges = [(p[0], p[1]), (p[-1], p[-2]), (p[:, 0], p[:, 1]), (p[:, -1], p[:, -2])]
    open_edges = [edge for edge, is_cut in zip(edges, cut, strict=True) if is_cut]
    for sweep in range(sweeps + 1):
        for outer, inner in open_edges:
            outer.copy_(inner)
        torch.add(p[:-2, 1:-1], p[2:, 1:-1], out=rest)
        rest.add_(p[1:-1, :-2]).add_(p[1:-1, 2:])
        torch.addcmul(source, rest, quarter, out=rest).sub_(inside)
        if sweep < sweeps:
            inside.add_(rest, alpha=damping)
    return inside.clone(), rest
