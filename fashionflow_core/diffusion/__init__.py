"""Latent diffusion around the networks: conditioning, known frames, schedulers, sampling, decoding."""
