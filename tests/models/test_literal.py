"""The literal formulation: golden outputs of the published networks, the laws of Figure 2, and ours against it."""

import ast
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden.named_weights import named_normal, named_state_dict
from torch import Tensor, nn

from fashionflow_benchmarks import reference_unet
from fashionflow_benchmarks.reference_unet import LiteralAdapter, LiteralUNet
from fashionflow_benchmarks.step import literal_twin

SMALL: dict[str, Any] = {
    "block_out_channels": (8, 16),
    "num_attention_heads": 2,
    "attention_head_dim": 4,
    "down_cross_attention_heads": (1, 2),
    "up_cross_attention_heads": (4, 2),
    "cross_attention_dim": 12,
    "time_embedding_dim": 20,
    "norm_num_groups": 4,
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def named(module: nn.Module, shapes: dict[str, list[int]]) -> nn.Module:
    """The module in evaluation mode with weights drawn from their names; names and shapes must match exactly."""
    state = {name: torch.from_numpy(value) for name, value in named_state_dict(shapes).items()}
    module.load_state_dict(state, strict=True)
    return module.eval()


def normal(name: str, *shape: int) -> Tensor:
    return torch.from_numpy(named_normal(name, shape))


@pytest.fixture(scope="module")
def shapes(golden: Path) -> dict[str, dict[str, list[int]]]:
    return json.loads((golden / "checkpoint_shapes.json").read_text())


@pytest.fixture(scope="module")
def published(shapes: dict[str, dict[str, list[int]]]) -> nn.Module:
    return named(LiteralUNet(), shapes["net"])


@pytest.mark.parametrize(
    ("case", "shape", "timestep"), [("unet_a", (1, 4, 8, 32, 32), [500]), ("unet_b", (2, 4, 6, 16, 48), [999, 3])]
)
@torch.inference_mode()
def test_unet_reproduces_golden(
    published: nn.Module, golden: Path, case: str, shape: tuple[int, ...], timestep: list[int]
) -> None:
    latents, context = normal(f"{case}:latents", *shape), normal(f"{case}:context", shape[0], 50, 768)
    output = published(latents, torch.tensor(timestep), context)
    np.testing.assert_allclose(output.numpy(), np.load(golden / "golden.npz")[case], rtol=0, atol=1e-3)


@torch.inference_mode()
def test_adapter_reproduces_golden(shapes: dict[str, dict[str, list[int]]], golden: Path) -> None:
    adapter = named(LiteralAdapter(), shapes["adapter"])
    output = adapter(normal("adapter_a:clip", 1, 50, 768), normal("adapter_a:vae", 1, 4, 80, 64))
    np.testing.assert_allclose(output.numpy(), np.load(golden / "golden.npz")["adapter_a"], rtol=0, atol=1e-3)


def test_parameters_of_the_published_network(published: nn.Module) -> None:
    assert sum(parameter.numel() for parameter in published.parameters()) == 71_671_548


def test_is_independent_of_the_product() -> None:
    """Agreement is evidence only while the formulation shares no code with what it judges."""
    tree = ast.parse(Path(reference_unet.__file__).read_text())
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert {name.split(".")[0] for name in imported} == {"math", "collections", "torch", "einops"}


@torch.inference_mode()
def test_identity_in_time_leaves_frames_independent() -> None:
    conv = reference_unet.PseudoConv3d(3, 5, 3)
    assert conv.temporal_conv is not None and conv.temporal_conv.bias is not None
    nn.init.dirac_(conv.temporal_conv.weight)
    nn.init.zeros_(conv.temporal_conv.bias)
    x = torch.randn(2, 3, 6, 8, 10)
    by_frame = torch.stack([conv.spatial_conv(x[:, :, frame]) for frame in range(6)], dim=2)
    torch.testing.assert_close(conv(x), by_frame)


@torch.inference_mode()
def test_pseudo_3d_convolution_is_a_separable_3d_convolution() -> None:
    conv = reference_unet.PseudoConv3d(3, 5, 3)
    assert conv.temporal_conv is not None and conv.temporal_conv.bias is not None and conv.spatial_conv.bias is not None
    nn.init.zeros_(conv.spatial_conv.bias)  # padding in time sees zeros, not this bias
    kernel = torch.einsum("omt,mihw->oithw", conv.temporal_conv.weight, conv.spatial_conv.weight)
    x = torch.randn(1, 3, 6, 8, 10)
    torch.testing.assert_close(conv(x), F.conv3d(x, kernel, conv.temporal_conv.bias, padding=1))


@torch.inference_mode()
def test_attention_is_scaled_dot_product_attention() -> None:
    q, k, v, bias = torch.randn(2, 7, 12), torch.randn(2, 9, 12), torch.randn(2, 9, 12), torch.randn(3, 7, 9)
    heads = [t.unflatten(-1, (3, 4)).transpose(1, 2) for t in (q, k, v)]
    expected = F.scaled_dot_product_attention(*heads, attn_mask=bias).transpose(1, 2).flatten(2)
    torch.testing.assert_close(reference_unet.attention(q, k, v, heads=3, bias=bias), expected)


@torch.inference_mode()
def test_position_bias_depends_on_the_offset_alone() -> None:
    bias = reference_unet.RelativePositionBias(6, axes=2, heads=3)(4, 5).unflatten(1, (4, 5)).unflatten(3, (4, 5))
    torch.testing.assert_close(bias[:, 1:, 1:, 1:, 1:], bias[:, :-1, :-1, :-1, :-1])
    assert not torch.allclose(bias, bias.permute(0, 3, 4, 1, 2))  # the sign of i - j matters


@torch.inference_mode()
def test_feed_forward_looks_one_frame_back_and_never_ahead() -> None:
    layer = reference_unet.FeedForward(8)
    x = torch.randn(1, 8, 6, 2, 2)
    changed = x.clone()
    changed[:, :, 2] += 1
    moved = (layer(changed) - layer(x)).abs().amax(dim=(0, 1, 3, 4)) > 1e-6
    assert moved.tolist() == [False, False, True, True, False, False]


@torch.inference_mode()
def test_resampling_orders_channels_like_pixel_shuffle() -> None:
    x = torch.randn(1, 3, 2, 4, 6)
    down, up = reference_unet.Downsample(3, time=False), reference_unet.Upsample(3, time=False)
    frames = x[0].transpose(0, 1)  # f c h w
    torch.testing.assert_close(down(x)[0].transpose(0, 1), down.down_space(F.pixel_unshuffle(frames, 2)))
    torch.testing.assert_close(up(x)[0].transpose(0, 1), F.pixel_shuffle(up.up_space(frames), 2))


def small_inputs(batch: int, channels: int = 4, height: int = 8, width: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    sample = torch.randn(batch, channels, 6, height, width)
    return sample, torch.tensor([700, 12, 999][:batch]), torch.randn(batch, 7, 12)


@torch.inference_mode()
def test_context_tokens_are_a_set() -> None:
    unet = LiteralUNet(**SMALL).eval()
    sample, timestep, context = small_inputs(2)
    expected = unet(sample, timestep, context)
    torch.testing.assert_close(unet(sample, timestep, context[:, torch.randperm(7)]), expected, rtol=0, atol=1e-5)
    assert not torch.allclose(unet(sample, timestep, context * 2), expected, atol=1e-4)


@torch.inference_mode()
def test_neighbours_in_a_batch_do_not_matter() -> None:
    unet = LiteralUNet(**SMALL).eval()
    sample, timestep, context = small_inputs(3)
    together = unet(sample, timestep, context)
    alone = torch.cat([unet(sample[i : i + 1], timestep[i : i + 1], context[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"in_channels": 8},
        {"in_channels": 33, "out_channels": 16, "norm_num_groups": 2},
        {
            "block_out_channels": (8, 8, 20),
            "down_cross_attention_heads": (2, 1, 5),
            "up_cross_attention_heads": (1, 4, 2),
        },
        {"block_out_channels": (16,), "down_cross_attention_heads": (2,), "up_cross_attention_heads": (1,)},
    ],
    ids=["small", "mask-channels", "latent-mask-channels", "three-levels", "one-level"],
)
@torch.inference_mode()
def test_our_network_equals_the_literal_one(config: dict[str, Any]) -> None:
    from fashionflow_core.models import FashionFlowUNet

    unet = FashionFlowUNet(**{**SMALL, **config})
    for parameter in unet.parameters():  # off its initial values: identities and zeros would hide a wrong order
        parameter.add_(0.1 * torch.randn_like(parameter))
    twin = literal_twin(unet.eval()).eval()
    inputs = small_inputs(3, channels=unet.config["in_channels"], height=16, width=8)
    expected = twin(*inputs)
    assert expected.std() > 0.05
    torch.testing.assert_close(unet(*inputs).sample, expected, rtol=0, atol=1e-5 * max(1, expected.abs().max().item()))
