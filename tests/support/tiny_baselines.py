"""Baselines small enough for tests: published depths are cut, every kind of layer is there."""

from dataclasses import replace

import torch

from fashionflow_benchmarks.dreampose import OPTIMISED
from fashionflow_benchmarks.shapes import REDUCED

CPU = torch.device("cpu")
TINY = replace(
    REDUCED,
    label="tiny",
    unet2d=REDUCED.unet2d
    | {"block_out_channels": (8, 16, 16, 16), "layers_per_block": 1, "attention_head_dim": 2, "norm_num_groups": 4},
    vae=REDUCED.vae | {"block_out_channels": (8, 8, 16, 16), "layers_per_block": 1},
)
EAGER = replace(OPTIMISED, compiled=False, frames_at_once=2, decode_at_once=4)
STEPS = 3
