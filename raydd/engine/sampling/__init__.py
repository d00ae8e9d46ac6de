"""Images made by a diffusion model."""
