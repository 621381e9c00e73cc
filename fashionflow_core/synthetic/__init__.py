"""Synthetic data: clips of dressed figures with exact geometry, masks and motion."""
