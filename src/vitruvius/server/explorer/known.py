"""The definitions of the catalog's models, each read once."""

from __future__ import annotations

from functools import cache

from ...checkpoints.sources import architecture
from ...spec import Decoder


@cache
def known(name: str) -> Decoder:
    """The definition of a model of the catalog."""
    return architecture(name)
