"""Images made by optimising or by tiling real ones."""
