"""Photo lock: restores the photo's colours, print and face in a generated video."""
