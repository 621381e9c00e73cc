"""Networks as PyTorch modules."""

from fashionflow_core.models.adapter import ImageContextAdapter
from fashionflow_core.models.unet import FashionFlowUNet, UNetOutput

__all__ = ["FashionFlowUNet", "ImageContextAdapter", "UNetOutput"]
