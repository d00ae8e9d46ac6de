"""Image folders: class folders, and flat ones with a list."""
