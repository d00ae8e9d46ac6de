"""Networks by name, statistics taps and folding. Imports only `raydd.ops` of raydd."""

from raydd.models.registry import ModelConfig, create_model

__all__ = ["ModelConfig", "create_model"]
