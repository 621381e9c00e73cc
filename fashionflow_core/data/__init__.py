"""Data: procedurally rendered clips, folders of clips, and cached latents."""
