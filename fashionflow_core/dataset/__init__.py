"""Training data: folders of clips, cached latents, downloads."""
