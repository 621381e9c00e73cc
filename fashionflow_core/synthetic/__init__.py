"""Simulated figures: clips of dressed figures with exact geometry, masks and motion."""
