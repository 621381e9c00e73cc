"""Pasting of the head of a figure: the photo's pixels until it turns away, then the video's own to the end.

A mixture of two heads in different poses shows two pairs of eyes. The head is therefore pasted as a whole or not at
all, and is not pasted again later.
"""

from __future__ import annotations

import numpy as np

from fashionflow_core.images.person import figure_rows
from fashionflow_core.metrics.face import face_mask

_SHARE = 0.14  # of the figure's height that hair and skin of the head take
_TURNED = 0.03  # of the head's width by which the face's middle may move
_LEAST_IOU = 0.6  # intersection over union of the photo's face, warped, and the video's
_LEAST_TRUST = 0.7  # mean confidence of the head's pixels


class HeadLatch:
    """Decision whether the photo's head is shown.

    Args:
        skin: float32 `(h, w)`, skin in the photo.
        head: bool `(h, w)`, skin and hair of the head in the photo.
        figure: bool `(h, w)`, in the photo.
    """

    def __init__(self, skin: np.ndarray, head: np.ndarray, figure: np.ndarray) -> None:
        self.head = head.astype(np.float32)
        self.face = (skin * head).astype(np.float32)
        self.gone = not head.any()
        self.share = 0.0 if self.gone else 1.0
        # A turn moves the visible skin of a face framed by hair, and the middle of a face without.
        self.middle = (face_mask(figure) & head).astype(np.float32)
        self._straight = (_lean(skin > 0.5, figure), _lean(self.middle > 0.5, figure))
        self._turned: float | None = None

    @staticmethod
    def zone(figure: np.ndarray) -> np.ndarray:
        """Rows of the head, bool `(h, 1)`."""
        top, bottom = figure_rows(figure)
        return (np.arange(len(figure))[:, None] - top) < _SHARE * (bottom - top)

    def update(self, face: np.ndarray, middle: np.ndarray, skin: np.ndarray, figure: np.ndarray, trust: float) -> None:
        """Update the decision with the next frame.

        Args:
            face: float32 `(h, w)`, the photo's face at its place in this frame.
            middle: float32 `(h, w)`, eyes, nose and mouth at their place in this frame.
            skin: float32 `(h, w)`, skin in this frame.
            figure: bool `(h, w)`.
            trust: mean confidence of the head's pixels.
        """
        zone = self.zone(figure)
        one, other = (face > 0.5) & zone, (skin > 0.5) & figure & zone
        alike = float((one & other).sum() / max((one | other).sum(), 1))
        turned = 0.0
        for mask, straight in zip((skin > 0.5, middle > 0.5), self._straight, strict=True):
            lean = _lean(mask, figure)
            turned = max(turned, 1.0 if lean is None or straight is None else abs(lean - straight))
        self._turned = turned if self._turned is None else 0.5 * (self._turned + turned)
        self.gone |= self._turned > _TURNED or alike < _LEAST_IOU or trust < _LEAST_TRUST
        if self.gone:
            self.share = 0.0  # no cross-fade: it would show both pairs of eyes


def _lean(skin: np.ndarray, figure: np.ndarray) -> float | None:
    """Offset of the face's middle from the head's, in widths of the head; None if no face is visible."""
    top, bottom = figure_rows(figure)
    rows = np.arange(len(figure))[:, None] - top
    zone = (rows > 0.03 * (bottom - top)) & (rows < 0.11 * (bottom - top))
    columns, seen = np.nonzero(figure & zone)[1], np.nonzero(skin & figure & zone)[1]
    if len(columns) < 30 or len(seen) < 15:
        return None
    left, right = np.percentile(columns, (2, 98))
    return float((seen.mean() - (left + right) / 2) / max(right - left, 1))
