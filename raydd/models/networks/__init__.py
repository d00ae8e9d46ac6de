"""The networks of raydd itself; :mod:`raydd.models.registry` builds them by name."""
