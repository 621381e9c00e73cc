"""Layers of a figure: body and arms as closed surfaces.

One surface over body and arm would double the arm's width in a turn, so each arm is a layer. The body continues behind
an arm that crosses it, and a little behind an arm next to it, but not behind the whole of a hanging arm. Head and hair
are part of the body. At the shoulder both surfaces have the height of the whole figure, so that no seam opens there.
"""

from dataclasses import dataclass

import numpy as np

from fashionflow_core.images.parts import ARM_LEFT, ARM_RIGHT, HEAD
from fashionflow_core.motion.inflation import inflate
from fashionflow_core.motion.regions import box_mean, dilate, erode, keep_large

DEPTH = 0.6
"""Ratio of depth to inflation of a surface, for the drawing order."""
CUT = 0.9
"""Alpha at which a layer's surface ends; softer pixels are drawn behind it."""
_LEAST = 0.002
"""Minimum share of the figure for an arm to be a layer."""
_JOINT = 1.3
"""Ratio of the surface's height at the shoulder to the arm's radius."""
_ARMS = {ARM_LEFT: "arm_left", ARM_RIGHT: "arm_right"}


@dataclass(frozen=True)
class Layer:
    """A closed two-sided surface over a part of the photo. Arrays have the photo's size.

    Attributes:
        name: body, arm_left or arm_right.
        alpha: matte of the layer, float32, 0..1, completed where another layer hides it; the surface ends at `CUT`.
        e: half thickness in pixels, float32.
        rim: half thickness at the outline in pixels, float32; 0 where front and back meet.
        z0: depth of the mid-surface at rest, in pixels towards the camera, float32.
        seen: pixels where the photo shows this layer, including soft edges, bool.
    """

    name: str
    alpha: np.ndarray
    e: np.ndarray
    rim: np.ndarray
    z0: np.ndarray
    seen: np.ndarray


def split(alpha: np.ndarray, parts: np.ndarray | None) -> list[Layer]:
    """Split a figure into layers, body first.

    Args:
        alpha: matte, (h, w), 0..1.
        parts: labels of `images.parts`, (h, w), or None: a single layer.
    """
    alpha = np.asarray(alpha, np.float32)
    if parts is not None and parts.shape != alpha.shape:
        raise ValueError(f"parts {parts.shape} and matte {alpha.shape} differ in size")
    window = figure_window(alpha)
    layers = _split(alpha[window], None if parts is None else parts[window])

    def whole(part: np.ndarray, outside: float) -> np.ndarray:
        image = np.full(alpha.shape, outside, part.dtype)
        image[window] = part
        return image

    return [
        Layer(
            name=layer.name,
            alpha=whole(layer.alpha, 0),
            e=whole(layer.e, 0),
            rim=whole(layer.rim, 0),
            z0=whole(layer.z0, 0),
            seen=whole(layer.seen, k == 0),
        )
        for k, layer in enumerate(layers)
    ]


def figure_window(alpha: np.ndarray, margin: int = 20) -> tuple[slice, slice]:
    """Rows and columns of the figure in a matte (h, w), with a margin inside the photo."""
    rows, columns = (np.flatnonzero((alpha > 0).any(axis)) for axis in (1, 0))
    if not len(rows):
        return slice(0, alpha.shape[0]), slice(0, alpha.shape[1])
    return (
        slice(max(0, int(rows[0]) - margin), int(rows[-1]) + 1 + margin),
        slice(max(0, int(columns[0]) - margin), int(columns[-1]) + 1 + margin),
    )


def _split(alpha: np.ndarray, parts: np.ndarray | None) -> list[Layer]:
    zero = np.zeros_like(alpha)
    labels = _arm_labels(alpha, parts)
    if labels is None:
        return [Layer("body", alpha, inflate(alpha), zero, zero, np.ones(alpha.shape, bool))]
    figure = alpha > 0.5
    tall = int(np.ptp(np.flatnonzero(figure.any(1)))) + 1
    whole = inflate(alpha)
    seen = labels == 0
    hidden = _hidden(figure, labels, tall)
    body_alpha = _outlined(alpha, seen | hidden)
    body_e = inflate(body_alpha)
    # behind an arm the body recedes within a few pixels, so that it does not come to the front
    fall = np.clip(2 * box_mean(seen, max(2, tall // 150)), 0, 1)
    arms = []
    for label, name in _ARMS.items():
        arm = labels == label
        if not arm.any():
            continue
        arm_alpha = _outlined(alpha, dilate(arm, 1))
        arm_e = inflate(arm_alpha)
        radius = float(np.quantile(arm_e[arm & figure], 0.9))
        joint = _joint(arm & figure, seen & figure, 2 * radius, _neck(figure, parts, tall))
        height = np.minimum(whole, _JOINT * radius)
        body_e += np.maximum(height - body_e, 0) * joint * fall
        arms.append((name, arm_alpha, arm_e + (height - arm_e) * joint, height * joint, arm))
    layers = [Layer("body", body_alpha, body_e, zero, zero, seen)]
    reach = max(2, tall // 80)
    for name, arm_alpha, arm_e, rim, arm in arms:
        covers = arm & hidden & (body_alpha > 0.5)
        z0 = _raised(np.where(covers, DEPTH * body_e + 1, 0).astype(np.float32), reach)
        layers.append(Layer(name, arm_alpha, arm_e, rim, z0, arm))
    return layers


def visible_e(alpha: np.ndarray, parts: np.ndarray | None) -> np.ndarray:
    """Half thickness in pixels of the layer that the photo shows at each pixel; float32 (h, w), 0 outside the matte."""
    return seen_e(split(alpha, parts))


def seen_e(layers: list[Layer]) -> np.ndarray:
    """`visible_e` of existing layers."""
    e = np.zeros_like(layers[0].e)
    for layer in layers:
        np.copyto(e, layer.e, where=layer.seen)
    return e


def _arm_labels(alpha: np.ndarray, parts: np.ndarray | None) -> np.ndarray | None:
    """Arm label of every pixel or 0, extended over the soft edge; None if no arm is large enough."""
    if parts is None:
        return None
    figure = alpha > 0.5
    least = _LEAST * figure.sum()
    masks = {label: keep_large((parts == label) & figure, least) for label in _ARMS}
    if not any(mask.any() for mask in masks.values()):
        return None
    labels = np.zeros(alpha.shape, np.uint8)
    for label, mask in masks.items():
        labels[mask] = label
    # Unknown pixels take the prevailing label nearby, from near to far: those outside the figure, and specks and
    # slivers of body next to an arm.
    body = figure & (labels == 0)
    thin = max(1, round(figure.sum() ** 0.5 / 80))
    firm = keep_large(dilate(erode(body, thin), thin) & body, least)
    known = figure & ~(body & ~firm & dilate(labels > 0, 2 * thin))
    for radius in (1, 2, 4, 8, 16):
        near = box_mean(known, radius)
        shares = [box_mean((labels == label) & known, radius) for label in _ARMS]
        new = ~known & (near > 0)
        for label, share in zip(_ARMS, shares, strict=True):
            labels[new & (share > 0.5 * near)] = label
        known |= new
    # pixels that mix arm and body belong to the arm, which is drawn in front
    for label in _ARMS:
        labels[(labels == 0) & figure & dilate((labels == label) & figure, 1)] = label
    return labels


def _outlined(alpha: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The matte within a mask of whole pixels; the mask's outline is smoothed and is at alpha `CUT`."""
    share = box_mean(box_mean(mask, 1), 1)
    return (alpha * np.clip(CUT + 2 * (share - 0.5), 0, 1)).astype(np.float32)


def _hidden(figure: np.ndarray, labels: np.ndarray, tall: int) -> np.ndarray:
    """Arm pixels behind which the body continues."""
    body, arm = figure & (labels == 0), figure & (labels > 0)
    # arms that cross the body: body on both sides, along the row, or along the column where the arm is thin
    crossed = _between(body, arm, arm.shape[1]) | _between(body.T, arm.T, tall // 8).T
    speck = max(1, tall // 200)
    hidden = dilate(erode(crossed, speck), speck) & crossed
    hidden |= _behind(figure, body, labels == ARM_LEFT)
    hidden |= _behind(figure[:, ::-1], body[:, ::-1], labels[:, ::-1] == ARM_RIGHT)[:, ::-1]
    # next to an arm the body continues a little, less near the arm's outline, so that no edge is visible beyond it
    for step in range(1, max(2, tall // 200) + 1):
        hidden |= arm & dilate(body, step) & erode(figure, step)
    return hidden


def _behind(figure: np.ndarray, body: np.ndarray, arm: np.ndarray) -> np.ndarray:
    """Pixels of an arm on the body's left that are within the body's outline above and below the arm.

    At most the half of the arm nearer to the body, so that a hanging arm is separate.
    """
    columns = np.arange(body.shape[1])
    rows = np.flatnonzero(body.any(1) & figure.any(1))
    result = np.zeros_like(arm)
    if not len(rows):
        return result
    edge = np.argmax(body[rows], axis=1)  # leftmost column of the body in each row
    outer = np.argmax(figure[rows], axis=1)
    before = np.maximum(edge - 1, 0)
    free = ~arm[rows, before]
    if free.all() or not free.any():
        return result
    outline = np.minimum(np.interp(rows, rows[free], edge[free]), edge)
    nearest = np.maximum(outline, (outer + edge) / 2)
    result[rows] = (columns >= nearest[:, None]) & (columns < edge[:, None]) & arm[rows]
    return result


def _between(body: np.ndarray, arm: np.ndarray, longest: int) -> np.ndarray:
    height, width = arm.shape
    padded = np.zeros((height, width + 2), np.int8)
    padded[:, 1:-1] = arm
    steps = np.diff(padded, axis=1)
    rows, starts = np.nonzero(steps == 1)
    _, ends = np.nonzero(steps == -1)
    inside = (starts > 0) & (ends < width)
    both = inside & body[rows, np.maximum(starts - 1, 0)] & body[rows, np.minimum(ends, width - 1)]
    both &= ends - starts <= longest
    marks = np.zeros((height, width + 1), np.int32)
    np.add.at(marks, (rows[both], starts[both]), 1)
    np.add.at(marks, (rows[both], ends[both]), -1)
    return np.cumsum(marks, axis=1)[:, :-1] > 0


def _neck(figure: np.ndarray, parts: np.ndarray | None, tall: int) -> tuple[float, float]:
    """Position of the neck's base in pixels (x, y)."""
    if parts is not None and (parts == HEAD).any():
        ys, xs = np.nonzero(parts == HEAD)
        low = ys >= np.quantile(ys, 0.9)
        return float(xs[low].mean()), float(ys[low].mean())
    top = int(np.flatnonzero(figure.any(1))[0])
    xs = np.nonzero(figure[top : top + max(1, tall // 4)])[1]
    return float(xs.mean()), top + 0.16 * tall


def _joint(arm: np.ndarray, body: np.ndarray, width: float, neck: tuple[float, float]) -> np.ndarray:
    """Weight 0..1, (h, w): 1 where the arm leaves the shoulder, 0 beyond about an arm's `width`."""
    weight = np.zeros(arm.shape, np.float32)
    ys, xs = np.nonzero(arm & dilate(body, 1))
    if not len(ys):
        return weight
    nearest = np.argmin((xs - neck[0]) ** 2 + (ys - neck[1]) ** 2)
    near = (xs - xs[nearest]) ** 2 + (ys - ys[nearest]) ** 2 <= (1.2 * width) ** 2
    xs, ys = xs[near], ys[near]
    step = -(-len(xs) // 64)
    reach = 0.9 * width
    top, left = int(max(0, ys.min() - reach)), int(max(0, xs.min() - reach))
    window = weight[top : int(ys.max() + reach) + 2, left : int(xs.max() + reach) + 2]
    y, x = np.mgrid[top : top + window.shape[0], left : left + window.shape[1]]
    distance = np.full(window.shape, np.inf, np.float32)
    for px, py in zip(xs[::step], ys[::step], strict=True):
        np.minimum(distance, np.hypot(x - px, y - py), out=distance)
    near_by = np.clip(1 - distance / reach, 0, 1)
    window[:] = near_by * near_by * (3 - 2 * near_by)
    return weight


def _raised(need: np.ndarray, reach: int) -> np.ndarray:
    """A smooth field that is nowhere below the given one."""
    high = need
    for axis in (0, 1):
        padded = np.pad(high, [(reach, reach) if a == axis else (0, 0) for a in (0, 1)])
        length = need.shape[axis]
        high = np.max([np.take(padded, np.arange(length) + k, axis) for k in range(2 * reach + 1)], axis=0)
    return np.maximum(box_mean(high, reach), need)
