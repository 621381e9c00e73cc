"""Random features of video: a fixed, untrained network, for a Fréchet distance without weights.

After the random embedding of Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models" (ICML 2020),
section 3.2: 64 features of a randomly initialised network. The distance shows a trend between sets of the same size and
kind. It is not FVD: the features know no object, and no number is comparable with a published one.
"""

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

RFD_FRAMES, RFD_SIDE, RFD_FEATURES, RFD_SEED = 16, 64, 64, 0
# Channels, kernel and stride (time, height, width) of each layer.
_LAYERS = (
    (3, 32, (3, 5, 5), (1, 2, 2)),
    (32, 64, (3, 3, 3), (2, 2, 2)),
    (64, 128, (3, 3, 3), (2, 2, 2)),
    (128, RFD_FEATURES, (3, 3, 3), (2, 2, 2)),
)


class RandomVideoFeatures(nn.Module):
    """Four 3-D convolutions with weights from a fixed seed, ReLU in between, and the mean over time and space.

    The weights are drawn by numpy's PCG64, so that they are the same for all versions of PyTorch. Their variance is
    2 / fan-in (He et al., 2015), which keeps the size of the features.
    """

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.Generator(np.random.PCG64(RFD_SEED))
        for number, (inside, outside, kernel, _) in enumerate(_LAYERS):
            fan = inside * int(np.prod(kernel))
            weight = rng.standard_normal((outside, inside, *kernel)) * np.sqrt(2 / fan)
            self.register_buffer(f"weight_{number}", torch.from_numpy(weight.astype(np.float32)))

    def forward(self, video: Tensor) -> Tensor:
        """`(b, 3, f, h, w)` in [-1, 1] → `(b, 64)`."""
        for number, (_, _, kernel, stride) in enumerate(_LAYERS):
            weight = self.get_buffer(f"weight_{number}")
            video = F.conv3d(video, weight, stride=stride, padding=[side // 2 for side in kernel])
            if number + 1 < len(_LAYERS):
                video = F.relu(video)
        return video.mean(dim=(2, 3, 4))


@torch.inference_mode()
def random_features(network: RandomVideoFeatures, frames: np.ndarray) -> np.ndarray:
    """Features of 16 frames, averaged to 64x64 pixels.

    Args:
        frames: uint8 `(16, h, w, 3)`.

    Returns:
        float32 `(1, 64)`.

    Raises:
        ValueError: another number of frames.
    """
    if len(frames) != RFD_FRAMES:
        raise ValueError(f"the random-feature distance takes {RFD_FRAMES} frames, not {len(frames)}")
    video = rearrange(torch.from_numpy(np.ascontiguousarray(frames)).float(), "f h w c -> f c h w")
    small = F.interpolate(video, (RFD_SIDE, RFD_SIDE), mode="area")
    return network(rearrange(small, "f c h w -> 1 c f h w") / 127.5 - 1).numpy()
