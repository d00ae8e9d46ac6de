"""The methods: one driver each, written against the engine alone.

A method is its configuration class; presets are YAML files that fill the same class.
"""

from collections.abc import Callable
from typing import Any

from raydd.engine.engine import Engine
from raydd.engine.product import Product
from raydd.methods import acs, ccfs, curricular, edc

DRIVERS: dict[type, Callable[[Engine, Any], Product]] = {
    acs.AcsConfig: acs.distil,
    ccfs.CcfsConfig: ccfs.distil,
    curricular.CurricularConfig: curricular.distil,
    edc.EdcConfig: edc.distil,
}
