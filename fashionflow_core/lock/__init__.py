"""Photo lock: the photo's colours, print and face put back into a generated video."""
