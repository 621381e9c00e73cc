"""Training: one loop over one cache, whatever learns. `fashionflow train` and `loop.train` are its two doors."""
