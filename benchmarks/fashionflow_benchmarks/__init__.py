"""Measurements: our networks against independent formulations, timed side by side on named hardware."""
