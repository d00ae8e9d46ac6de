"""A run per trial, under Ray Tune."""
