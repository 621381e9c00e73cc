"""Motion models: matte, shell, renderer and motion channels of a photo."""
