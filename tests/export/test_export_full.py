"""The published U-Net at its full width and length: export, parity and engines within their time and memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command import environment
from places import ROOT
from tiny import build_sources, named_published

from fashionflow_core.store.published import import_checkpoint
from fashionflow_export import tensorrt as trt


def build_published(folder: Path) -> Path:
    """A model folder of the published U-Net and adapter with name-seeded weights, and a narrow VAE and CLIP."""
    sources = build_sources(folder / "sources")
    checkpoint = folder / "checkpoint.pth"
    torch.save({"net": named_published("net"), "adapter": named_published("adapter")}, checkpoint)
    return import_checkpoint(checkpoint, folder / "model", vae=str(sources / "vae"), clip=str(sources / "clip"))


@pytest.mark.slow
@pytest.mark.skipif(trt.find_spec("tensorrt_rtx") is None, reason="needs the extra trt-rtx")
def test_the_published_unet(tmp_path: Path) -> None:
    model, out = build_published(tmp_path), tmp_path / "figures.json"
    subprocess.run(
        [sys.executable, str(ROOT / "scripts/export_full_width.py"), str(model), "-o", str(out)],
        env={**environment(), "OMP_NUM_THREADS": "2"},
        check=True,
        timeout=1800,
    )
    results = json.loads(out.read_text())["results"]
    for figures in results.values():
        assert figures["input"]["sample"] == [1, 4, 70, 80, 64]
        assert figures["peak_memory_bytes"] < 6e9
        assert figures["states"]["onnxruntime"] == "verified"
        assert figures["engine_bytes"] > 1e8
    assert max(entry["relative"] for entry in results["fp32"]["parity"]) <= 1e-3
    assert results["fp16"]["activation_traffic_bytes"] <= 12.6e9
