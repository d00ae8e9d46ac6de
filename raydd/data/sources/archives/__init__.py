"""WebDataset archives: streamed, never unpacked."""
