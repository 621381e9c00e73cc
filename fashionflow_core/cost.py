"""Arithmetic of a network, counted on the network itself."""

from collections.abc import Callable
from typing import Any


def count_flop(forward: Callable[..., Any], *shapes: tuple[int, ...]) -> int:
    """Floating-point operations of one call, counted on tensors without storage: no memory, and little time.

    Args:
        forward: of a network; called with one float32 tensor a shape.
        shapes: of its arguments.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # Weights that are really there become fake ones on the way. The counter does not know the fused attention of CPUs;
    # in its plain form it is matrix products, which it does.
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        torch.inference_mode(),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        forward(*(torch.empty(shape) for shape in shapes))
    return counter.get_total_flops()
