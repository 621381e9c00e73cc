"""The networks: golden values of the published ones, agreement with the literal formulation, and the laws they keep."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden.named_weights import named_normal
from tiny import named_published, seeded
from torch import Tensor

from fashionflow_benchmarks.reference_unet import LiteralAdapter, LiteralUNet
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.models import FashionFlowUNet, ImageContextAdapter
from fashionflow_core.store.published import (
    adapter_to_ours,
    adapter_to_published,
    ours_to_published,
    published_to_ours,
)

PUBLISHED_PARAMETERS = 71_671_548
CASES = {"unet_a": ((1, 4, 8, 32, 32), [500]), "unet_b": ((2, 4, 6, 16, 48), [999, 3])}


def _inputs(case: str) -> tuple[Tensor, Tensor, Tensor]:
    shape, timesteps = CASES[case]
    context = named_normal(f"{case}:context", (shape[0], 50, 768))
    return torch.from_numpy(named_normal(f"{case}:latents", shape)), torch.tensor(timesteps), torch.from_numpy(context)


def _run(unet: FashionFlowUNet, sample: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
    with torch.inference_mode():
        return unet(sample.to(unet.dtype), timestep, context.to(unet.dtype)).sample.float()


def _relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.fixture(scope="module")
def published() -> FashionFlowUNet:
    """The published U-Net with name-seeded weights, float32."""
    unet = FashionFlowUNet().eval()
    unet.load_state_dict(published_to_ours(named_published("net")))
    return unet


@pytest.fixture
def lowered(published: FashionFlowUNet, request: pytest.FixtureRequest) -> Iterator[FashionFlowUNet]:
    """The same network in the dtype asked for, and in float32 again afterwards."""
    before = {name: tensor.clone() for name, tensor in published.state_dict().items()}
    torch.nn.Module.to(published, request.param)  # Module's own: diffusers' warns of float32 parts that are not there
    yield published
    torch.nn.Module.to(published, torch.float32).load_state_dict(before)


@pytest.fixture(scope="module")
def values(golden: Path) -> dict[str, Tensor]:
    with np.load(golden / "golden.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def test_published_parameter_count(published: FashionFlowUNet):
    assert sum(p.numel() for p in published.parameters()) == PUBLISHED_PARAMETERS


@pytest.mark.parametrize("case", CASES)
def test_unet_parity(published: FashionFlowUNet, values: dict[str, Tensor], case: str):
    # Tolerance of the reference README; measured on CPU: 1.5e-5.
    torch.testing.assert_close(_run(published, *_inputs(case)), values[case], atol=1e-3, rtol=0)


def test_adapter_parity(values: dict[str, Tensor]):
    adapter = ImageContextAdapter()
    adapter.load_state_dict(adapter_to_ours(named_published("adapter")))
    clip = torch.from_numpy(named_normal("adapter_a:clip", (1, 50, 768)))
    vae = torch.from_numpy(named_normal("adapter_a:vae", (1, 4, 80, 64)))
    with torch.inference_mode():
        torch.testing.assert_close(adapter(clip, vae), values["adapter_a"], atol=1e-3, rtol=0)


# Half precision, measured against the golden float32 values on CPU (their standard deviation is near 1.7):
# bf16 1.8 % of the norm, 0.18 at most; fp16 0.23 % of the norm, 0.021 at most. The bounds leave a factor of two.
@pytest.mark.parametrize(
    ("lowered", "case", "relative", "largest"),
    [
        (torch.bfloat16, "unet_a", 0.04, 0.36),
        (torch.bfloat16, "unet_b", 0.04, 0.36),
        pytest.param(torch.float16, "unet_b", 0.005, 0.045, marks=pytest.mark.slow),
    ],
    indirect=["lowered"],
)
def test_half_precision(
    lowered: FashionFlowUNet, values: dict[str, Tensor], case: str, relative: float, largest: float
):
    output = _run(lowered, *_inputs(case))
    assert _relative(output, values[case]) < relative
    assert (output - values[case]).abs().max() < largest


# ---- other configs -------------------------------------------------------------------------------------------------


def _narrow(levels: int = 2, in_channels: int = 4, seed: int = 0) -> FashionFlowUNet:
    """A narrow U-Net in which every parameter is random: fresh temporal convolutions would do nothing."""
    with seeded(seed):
        unet = FashionFlowUNet(
            in_channels=in_channels,
            block_out_channels=(16, 32, 48)[:levels],
            num_attention_heads=2,
            attention_head_dim=12,
            down_cross_attention_heads=(1, 2, 4)[:levels],
            up_cross_attention_heads=(2, 4, 8)[:levels],  # not the mirror of the way down: an order swapped would show
            cross_attention_dim=20,
            time_embedding_dim=64,
            norm_num_groups=4,
        )
        for parameter in unet.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return unet.eval()


def _arguments(network: FashionFlowUNet | ImageContextAdapter) -> dict[str, Any]:
    """What the network was made with; JSON has no tuples."""
    arguments = {name: value for name, value in network.config.items() if not name.startswith("_")}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in arguments.items()}


def _noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("levels", "in_channels", "batch", "frames", "height", "width"),
    [(2, 4, 2, 2, 8, 12), (2, 8, 1, 6, 12, 8), (3, 4, 1, 8, 16, 8), (3, 9, 2, 10, 8, 8)],
)
def test_agrees_with_the_literal_formulation(
    levels: int, in_channels: int, batch: int, frames: int, height: int, width: int
):
    unet = _narrow(levels, in_channels)
    literal = LiteralUNet(**_arguments(unet)).eval()
    literal.load_state_dict(ours_to_published(unet.state_dict()))
    sample, context = _noise(batch, in_channels, frames, height, width), _noise(batch, 7, 20, seed=2)
    timestep = torch.tensor([37, 981])[:batch]
    with torch.inference_mode():
        expected = literal(sample, timestep, context)
    assert expected.std() > 0.1
    torch.testing.assert_close(_run(unet, sample, timestep, context), expected, atol=1e-4, rtol=1e-4)


def test_adapter_agrees_with_the_literal_formulation():
    with seeded(3):
        adapter = ImageContextAdapter(latent_channels=6, latent_height=8, latent_width=12, clip_tokens=5, clip_dim=10)
    literal = LiteralAdapter(**_arguments(adapter))
    literal.load_state_dict(adapter_to_published(adapter.state_dict()))
    clip, vae = _noise(2, 5, 10), _noise(2, 6, 8, 12, seed=2)
    with torch.inference_mode():
        torch.testing.assert_close(adapter(clip, vae), literal(clip, vae), atol=1e-6, rtol=1e-5)


def test_neighbours_in_a_batch_do_not_matter():
    unet = _narrow()
    sample, timestep, context = _noise(3, 4, 4, 8, 8), torch.tensor([1, 500, 999]), _noise(3, 7, 20, seed=2)
    together = _run(unet, sample, timestep, context)
    for i in range(3):
        alone = _run(unet, sample[i : i + 1], timestep[i : i + 1], context[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=1e-4)


def test_mask_channels_are_read_and_not_written():
    unet = _narrow(in_channels=8)
    sample, timestep, context = _noise(1, 8, 4, 8, 8), torch.tensor([500]), _noise(1, 7, 20, seed=2)
    output = _run(unet, sample, timestep, context)
    assert output.shape == (1, 4, 4, 8, 8)
    sample[:, 4:] = 0
    assert _relative(_run(unet, sample, timestep, context), output) > 0.01


def test_every_parameter_learns():
    unet = _narrow(levels=3)
    unet(_noise(1, 4, 4, 8, 16), torch.tensor([500]), _noise(1, 7, 20, seed=2)).sample.square().mean().backward()
    without = [name for name, p in unet.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without
    # The last layer of a position bias adds the same to every key of a query, which softmax forgets.
    still = [name for name, p in unet.named_parameters() if p.grad is not None and not p.grad.any()]
    assert all(name.endswith("linear3.bias") for name in still)


@pytest.mark.parametrize("levels", [2, 3])
def test_divisors_follow_from_the_levels(levels: int):
    unet = _narrow(levels)
    assert (unet.size_divisor, unet.frame_divisor) == (2**levels, 2)
    timestep, context = torch.tensor([500]), _noise(1, 7, 20)
    good = (4, 2**levels, 3 * 2**levels)
    assert _run(unet, _noise(1, 4, *good), timestep, context).shape == (1, 4, *good)
    for axis, word, divisor in ((0, "frames", 2), (1, "height", 2**levels), (2, "width", 2**levels)):
        for wrong in (good[axis] + 1, 0):
            shape = [*good[:axis], wrong, *good[axis + 1 :]]
            with pytest.raises(FashionFlowError, match=rf"{wrong}.*multiple of {divisor}$") as error:
                unet(torch.zeros(1, 4, *shape), timestep, context)
            assert word in error.value.message


def test_heads_must_match_the_levels():
    with pytest.raises(FashionFlowError, match="2 levels need 2 values"):
        FashionFlowUNet(block_out_channels=(8, 16))


def test_adapter_refuses_another_size():
    with pytest.raises(FashionFlowError, match=r"\(4, 40, 32\).*need \(4, 80, 64\)"):
        ImageContextAdapter()(torch.zeros(1, 50, 768), torch.zeros(1, 4, 40, 32))


@pytest.mark.parametrize("part", ["unet", "adapter"])
def test_saved_and_opened_again(tmp_path: Path, part: str):
    with seeded(4):
        small = ImageContextAdapter(latent_channels=4, latent_height=8, latent_width=8, clip_tokens=3, clip_dim=6)
    network = _narrow(3, in_channels=8) if part == "unet" else small
    network.save_pretrained(tmp_path / part)
    assert [p.suffix for p in (tmp_path / part).iterdir() if p.suffix != ".json"] == [".safetensors"]
    opened = type(network).from_pretrained(tmp_path, subfolder=part)
    assert _arguments(opened) == _arguments(network)
    expected = network.state_dict()
    assert opened.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in opened.state_dict().items())


# ---- export --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_traces_with_any_even_number_of_frames():
    unet = _narrow()
    inputs = (_noise(1, 4, 6, 8, 12), torch.tensor([500]), _noise(1, 7, 20, seed=2))
    frames = 2 * torch.export.Dim("half_frames", min=1, max=64)
    program = torch.export.export(unet, inputs, dynamic_shapes=({2: frames}, None, None))
    # A second length: a wrongly traced position bias would agree at the first one alone.
    for count in (6, 10):
        sample = _noise(1, 4, count, 8, 12, seed=count)
        with torch.inference_mode():
            traced = program.module()(sample, *inputs[1:]).sample
        torch.testing.assert_close(traced, _run(unet, sample, *inputs[1:]), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_traced_with_static_shapes_too():
    unet, adapter = _narrow(3), ImageContextAdapter(4, 8, 8, 3, 6)
    inputs = (_noise(2, 4, 4, 8, 8), torch.tensor([3, 500]), _noise(2, 7, 20, seed=2))
    with torch.inference_mode():
        traced = torch.export.export(unet, inputs).module()(*inputs).sample
        torch.testing.assert_close(traced, _run(unet, *inputs), atol=1e-5, rtol=1e-4)
    tokens = (_noise(1, 3, 6), _noise(1, 4, 8, 8))
    torch.testing.assert_close(torch.export.export(adapter, tokens).module()(*tokens), adapter(*tokens))


def test_the_timestep_matters_down_to_neighbours():
    # In half precision 998 and 999 must still differ: the embedding is computed in float32.
    unet = _narrow()
    sample, context = _noise(1, 4, 2, 8, 8), _noise(1, 7, 20, seed=2)
    for dtype in (torch.float32, torch.bfloat16):
        torch.nn.Module.to(unet, dtype)
        outputs = [_run(unet, sample, torch.tensor([t]), context) for t in (3, 4, 998, 999)]
        assert all(not torch.equal(a, b) for a, b in itertools.combinations(outputs, 2))
