"""3-D figures: posed bodies in simulated clothes."""
