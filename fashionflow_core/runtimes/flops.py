"""Counted FLOPs and memory traffic of a network."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

_PERHAPS_VIEWS = ("contiguous", "reshape", "to", "flatten")  # operators that copy only if necessary


def count_flop(forward: Callable[..., Any], *shapes: tuple[int, ...]) -> int:
    """Floating-point operations of one call, counted on tensors without storage, so fast and without memory.

    Args:
        forward: function of a network, called with one float32 tensor per shape.
        shapes: shapes of its arguments.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # The counter does not support the fused attention of CPUs; its math form is matrix products.
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH):
        _call_without_storage(forward, shapes, counter)
    return counter.get_total_flops()


def count_traffic(forward: Callable[..., Any], *shapes: tuple[int, ...]) -> int:
    """Bytes that one call reads and writes if every operator runs separately, as in eager PyTorch.

    Each operator reads its tensors once and writes its results once; views are free, and caches are ignored. Attention
    is one operator. A compiler that fuses operators moves less: the value is an upper bound of the savings.

    Args:
        forward, shapes: as in `count_flop`, in any dtype.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    def tensors(values: Any) -> list[torch.Tensor]:
        return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]

    def size(values: Iterable[torch.Tensor]) -> int:
        # Broadcast or sliced tensors count with their stored and visible size.
        return sum(min(t.numel() * t.element_size(), t.untyped_storage().nbytes()) for t in values)

    class Traffic(TorchDispatchMode):
        total = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            read, written = tensors((args, kwargs)), tensors(result)
            name = func.__name__.partition(".")[0]
            if name in _PERHAPS_VIEWS:
                stored = {tensor.untyped_storage()._cdata for tensor in read}
                moved = any(tensor.untyped_storage()._cdata not in stored for tensor in written)
            else:
                # Without a result only a shape or device was queried; new memory has no content yet.
                moved = bool(written) and not func.is_view and not name.startswith(("empty", "new_empty"))
            self.total += size(read) + size(written) if moved else 0
            return result

    counter = Traffic()
    _call_without_storage(forward, shapes, counter)
    return counter.total


def _call_without_storage(
    forward: Callable[..., Any], shapes: tuple[tuple[int, ...], ...], counter: AbstractContextManager[Any]
) -> None:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    # Real weights are converted to fake ones.
    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode(), counter:
        forward(*(torch.empty(shape) for shape in shapes))
