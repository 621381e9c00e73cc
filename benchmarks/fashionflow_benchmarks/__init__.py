"""Benchmarks: this project's networks against independent formulations, with the hardware recorded."""
