"""Metrics of generated video: arrays in, numbers out."""
