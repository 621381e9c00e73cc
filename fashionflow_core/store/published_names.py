"""Parameter names of the published networks.

The published names are those of the authors' checkpoint (reference README, `checkpoint_shapes.json`). Values never
change, only names and the order of axes.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.models.adapter import ImageContextAdapter
from fashionflow_core.models.unet import FashionFlowUNet

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Transform:
    """Conversion of published tensors to one of this project (`ours`), and back (`published`)."""

    ours: Callable[..., Tensor]
    published: Callable[[Tensor], tuple[Tensor, ...]]


def _reshape(published: str, ours: str, **axes: int) -> Transform:
    return Transform(
        lambda x: rearrange(x, f"{published} -> {ours}", **axes),
        lambda x: (rearrange(x, f"{ours} -> {published}", **axes),),
    )


SAME = Transform(lambda x: x, lambda x: (x,))
SPATIAL = _reshape("o i k1 k2", "o i 1 k1 k2")  # 2D convolution → Conv3d of kernel (1, k, k)
TEMPORAL = _reshape("o i k", "o i k 1 1")  # 1D convolution → Conv3d of kernel (k, 1, 1)
DOWN_SPACE = _reshape("o (c p1 p2) 1 1", "o c 1 p1 p2", p1=2, p2=2)  # space-to-depth + 1x1 → stride 2
DOWN_TIME = _reshape("o (c p) 1 1 1", "o c p 1 1", p=2)
LINEAR_2D = _reshape("o i 1 1", "o i")  # 1x1 convolution → Linear
LINEAR_3D = _reshape("o i 1 1 1", "o i")
GAIN = _reshape("c 1 1 1", "c")
QKV = Transform(
    lambda q, kv: torch.cat((q, kv)), lambda qkv: (qkv[: qkv.shape[0] // 3], qkv[qkv.shape[0] // 3 :])
)  # two Linears → one; the rows of `to_kv` are already keys, then values


@dataclass(frozen=True)
class TensorMapping:
    """One tensor of this project, its published tensors, and the conversion."""

    published: tuple[str, ...]
    ours: str
    transform: Transform = SAME


def _row(published: str | tuple[str, ...], ours: str, transform: Transform = SAME) -> TensorMapping:
    return TensorMapping((published,) if isinstance(published, str) else published, ours, transform)


def _affine(published: str, ours: str, transform: Transform = SAME) -> tuple[TensorMapping, ...]:
    """Rows of a weight with its transform and of a bias, which stays unchanged."""
    return _row(f"{published}.weight", f"{ours}.weight", transform), _row(f"{published}.bias", f"{ours}.bias")


def _within(published: str, ours: str, rows: Iterable[TensorMapping]) -> tuple[TensorMapping, ...]:
    """Rows of a part with the prefixes of both names."""
    return tuple(
        TensorMapping(tuple(f"{published}.{p}" for p in r.published), f"{ours}.{r.ours}", r.transform) for r in rows
    )


# A row is a tensor that may exist, depending on the network's config.
CONV = (*_affine("spatial_conv", "spatial", SPATIAL), *_affine("temporal_conv", "temporal", TEMPORAL))
RESNET = (
    *_affine("timestep_mlp.1", "time"),
    *_within("block1.project", "block1.conv", CONV),
    *_affine("block1.norm", "block1.norm"),
    *_within("block2.project", "block2.conv", CONV),
    *_affine("block2.norm", "block2.norm"),
    *_within("res_conv", "skip", CONV),
)
SELF_ATTENTION = (
    *_affine("norm", "norm"),
    _row(("to_q.weight", "to_kv.weight"), "to_qkv.weight", QKV),
    _row("to_out.weight", "to_out.weight"),
)
POSITION_BIAS = (*_affine("net.0.0", "linear1"), *_affine("net.1.0", "linear2"), *_affine("net.2", "linear3"))
ATTENTION = (
    *_within("spatial_attn", "spatial", SELF_ATTENTION),
    *_within("spatial_rel_pos_bias", "spatial_bias", POSITION_BIAS),
    *_within("temporal_attn", "temporal", SELF_ATTENTION),
    *_within("temporal_rel_pos_bias", "temporal_bias", POSITION_BIAS),
    _row("ff.proj_in.0.weight", "feed_forward.proj_in.weight", LINEAR_3D),
    _row("ff.proj_out.0.g", "feed_forward.gain", GAIN),
    _row("ff.proj_out.1.weight", "feed_forward.proj_out.weight", LINEAR_3D),
)
CROSS_ATTENTION = (
    *_affine("layernorm_2", "norm1"),
    _row("attention_2.q_proj.weight", "to_q.weight"),
    _row("attention_2.k_proj.weight", "to_k.weight"),
    _row("attention_2.v_proj.weight", "to_v.weight"),
    *_affine("attention_2.out_proj", "to_out"),
    *_affine("layernorm_3", "norm2"),
    *_affine("linear_geglu_1", "ff_in"),
    *_affine("linear_geglu_2", "ff_out"),
    *_within("conv_output", "conv_out", CONV),
)
DOWNSAMPLE = (
    _row("down_space.1.weight", "space.weight", DOWN_SPACE),
    _row("down_time.1.weight", "time.weight", DOWN_TIME),
)
UPSAMPLE = (*_affine("up_space.0", "space", LINEAR_2D), *_affine("up_time.0", "time", LINEAR_3D))
LEVEL = (
    *_within("0", "time_resnet", RESNET),
    *_within("1.0", "resnets.0", RESNET),
    *_within("1.1", "resnets.1", RESNET),
    *_within("2", "attention", ATTENTION),
    *_within("4", "cross_attention", CROSS_ATTENTION),
)
DOWN = (*LEVEL, *_within("3", "downsample", DOWNSAMPLE))
UP = (*LEVEL, *_within("3", "upsample", UPSAMPLE))
OUTSIDE_LEVELS = (
    *_affine("to_timestep_cond.1", "time_embedding.linear"),
    *_within("conv_in", "conv_in", CONV),
    *_within("mid_block1", "mid_block.resnet1", RESNET),
    *_within("mid_attn", "mid_block.attention", ATTENTION),
    *_within("mid_block2", "mid_block.resnet2", RESNET),
    *_within("conv_out", "conv_out", CONV),
)
ADAPTER = (*_affine("vae2clip", "vae_proj"), *_affine("linear1", "token_mix"))


def unet_table(levels: int) -> tuple[TensorMapping, ...]:
    """All rows of a U-Net of `levels` levels. Published `ups` start at the outermost, `up_blocks` innermost."""
    downs = [_within(f"downs.{n}", f"down_blocks.{n}", DOWN) for n in range(levels)]
    ups = [_within(f"ups.{n}", f"up_blocks.{levels - 1 - n}", UP) for n in range(levels)]
    return (*OUTSIDE_LEVELS, *(row for rows in (*downs, *ups) for row in rows))


def _to_published(state: State, table: Iterable[TensorMapping], what: str) -> dict[str, Tensor]:
    rows = {row.ours: row for row in table}
    unknown = sorted(set(state) - set(rows))
    if unknown:
        raise FashionFlowError(
            f"{what}: no published counterpart of {', '.join(unknown)}",
            hint="only models of the published architecture have such names: name one of those",
        )
    published = {}
    for name, tensor in state.items():
        row = rows[name]
        published |= zip(row.published, (part.contiguous() for part in row.transform.published(tensor)), strict=True)
    return published


def _to_ours(state: State, like: State, table: tuple[TensorMapping, ...], what: str) -> dict[str, Tensor]:
    # The inverse table on tensors without storage gives the expected names and shapes.
    empty = {name: torch.empty(tensor.shape, device="meta") for name, tensor in like.items()}
    expected = {name: tuple(tensor.shape) for name, tensor in _to_published(empty, table, what).items()}
    problems = [f"missing {name}" for name in expected if name not in state]
    problems += [f"unexpected {name}" for name in state if name not in expected]
    for name in expected:
        if name in state and (found := tuple(getattr(state[name], "shape", ()))) != expected[name]:
            problems.append(f"{name} has shape {list(found)}, not {list(expected[name])}")
    if problems:
        raise FashionFlowError(
            f"{what}: not the published network: {'; '.join(problems)}",
            hint="import takes the checkpoint of the FashionFlow authors, FashionFlow_checkpoint.pth",
        )
    rows = (row for row in table if row.ours in like)
    # A clone owns its memory: slices of one pickle may share theirs, which safetensors refuses.
    return {row.ours: row.transform.ours(*(state[p] for p in row.published)).contiguous().clone() for row in rows}


def _levels(state: Iterable[str]) -> int:
    return len({name.split(".")[1] for name in state if name.startswith("down_blocks.")})


def _default_state(network: type[FashionFlowUNet] | type[ImageContextAdapter]) -> State:
    with torch.device("meta"):
        return network().state_dict()


def published_to_ours(net_state: State, like: State | None = None) -> dict[str, Tensor]:
    """State dict of `FashionFlowUNet` from the published one (`net` of the checkpoint).

    Args:
        net_state: published names → tensors.
        like: state dict of a `FashionFlowUNet` of another config, for its names and shapes (a model on the meta device
            suffices); by default the published network's.

    Raises:
        FashionFlowError: one message that names every missing, unexpected and wrongly shaped tensor.
    """
    like = _default_state(FashionFlowUNet) if like is None else like
    return _to_ours(net_state, like, unet_table(_levels(like)), "net")


def ours_to_published(state: State) -> dict[str, Tensor]:
    """The inverse of `published_to_ours`, for any config: published names → tensors.

    Raises:
        FashionFlowError: names all tensors that do not belong to a `FashionFlowUNet`.
    """
    return _to_published(state, unet_table(_levels(state)), "unet")


def adapter_to_ours(adapter_state: State, like: State | None = None) -> dict[str, Tensor]:
    """State dict of `ImageContextAdapter` from the published one (`adapter`); arguments and errors as for the U-Net."""
    like = _default_state(ImageContextAdapter) if like is None else like
    return _to_ours(adapter_state, like, ADAPTER, "adapter")


def adapter_to_published(state: State) -> dict[str, Tensor]:
    """The inverse of `adapter_to_ours`."""
    return _to_published(state, ADAPTER, "adapter")
