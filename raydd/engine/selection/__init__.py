"""Choose and fetch real images."""
