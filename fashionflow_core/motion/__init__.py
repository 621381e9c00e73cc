"""Motion of a photo: matte, shell, renderer and motion channels."""
