"""Make a diffusion model."""
