"""Models on disk: folders, registry, hub, published checkpoint."""
