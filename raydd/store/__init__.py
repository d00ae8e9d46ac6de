"""What lies on disk and survives a kill."""
