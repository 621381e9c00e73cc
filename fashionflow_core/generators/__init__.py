"""Generators: image-to-video pipelines of diffusers and remote endpoints, which return finished frames."""
