"""The page of raydd.browse: runs and sweeps on disk as one self-contained file."""
