"""The networks, and nothing else: no files, no sampling, no photos."""

from fashionflow_core.models.adapter import ImageContextAdapter
from fashionflow_core.models.unet import FashionFlowUNet, UNetOutput

__all__ = ["FashionFlowUNet", "ImageContextAdapter", "UNetOutput"]
