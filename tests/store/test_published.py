"""The table between the published names and ours, in both directions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from golden.named_weights import checkpoint_shapes
from tiny import hollow_published, named_published

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.models import FashionFlowUNet, ImageContextAdapter
from fashionflow_core.store.published import (
    adapter_to_ours,
    adapter_to_published,
    ours_to_published,
    published_betas,
    published_to_ours,
)


def test_table_covers_the_checkpoint_and_loses_nothing():
    net = named_published("net")
    ours = published_to_ours(net)
    unet = FashionFlowUNet()
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in unet.state_dict().items()}
    back = ours_to_published(ours)
    assert back.keys() == net.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in net.items())
    adapter = named_published("adapter")
    assert {n: list(t.shape) for n, t in adapter_to_published(ImageContextAdapter().state_dict()).items()} == (
        checkpoint_shapes()["adapter"]
    )
    assert all(torch.equal(t, adapter[n]) for n, t in adapter_to_published(adapter_to_ours(adapter)).items())


@pytest.mark.parametrize("levels", [2, 3])
def test_table_serves_other_configs(levels: int):
    unet = FashionFlowUNet(
        in_channels=8,
        block_out_channels=(8, 16, 24)[:levels],
        down_cross_attention_heads=(1,) * levels,
        up_cross_attention_heads=(1,) * levels,
        cross_attention_dim=12,
        time_embedding_dim=32,
    )
    state = unet.state_dict()
    published = ours_to_published(state)
    assert f"ups.{levels - 1}.2.ff.proj_out.0.g" in published  # attention: innermost here is the last of theirs
    back = published_to_ours(published, like=state)
    assert back.keys() == state.keys() and all(torch.equal(back[name], state[name]) for name in state)


def test_every_difference_is_named_at_once():
    net = hollow_published("net")
    del net["conv_in.spatial_conv.bias"], net["ups.0.3.up_space.0.weight"]
    net["downs.4.0.block1.norm.weight"] = torch.zeros(8)
    net["mid_attn.ff.proj_out.0.g"] = torch.zeros(1365)
    net["conv_out.spatial_conv.bias"] = "four"  # pyright: ignore[reportArgumentType]
    with pytest.raises(FashionFlowError) as error:
        published_to_ours(net)
    message = error.value.message
    assert "missing conv_in.spatial_conv.bias" in message
    assert "missing ups.0.3.up_space.0.weight" in message
    assert "unexpected downs.4.0.block1.norm.weight" in message
    assert "mid_attn.ff.proj_out.0.g has shape [1365], not [1365, 1, 1, 1]" in message
    assert "conv_out.spatial_conv.bias has shape [], not [4]" in message
    assert message.count(";") == 4


def test_what_is_no_unet_isnamed_published():
    with pytest.raises(FashionFlowError, match=r"no published counterpart of down_blocks\.0\.extra, head\.weight"):
        ours_to_published({"head.weight": torch.zeros(1), "down_blocks.0.extra": torch.zeros(1)})


def test_published_betas(golden: Path):
    betas = np.array(published_betas())
    assert (betas[0], betas[-1], len(betas)) == (pytest.approx(1e-4), pytest.approx(0.02), 1000)
    assert (np.diff(betas) > 0).all()
    file = golden / "golden_conditioning.npz"
    with np.load(file) as arrays:
        np.testing.assert_allclose(betas, arrays["betas"], rtol=1e-9)
