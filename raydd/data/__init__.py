"""The data floor: formats without torch or ray.

Sources of real images, decoding, class order, the distilled set on disk, its card and its export.
Nothing here imports from the floors above it.
"""
