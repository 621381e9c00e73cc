"""Motion of filmed figures, as data for motion models."""
