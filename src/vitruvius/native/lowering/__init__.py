"""From the nouns of spec/ to operations, file by file. What is not in the table of `base` has no native form."""

from __future__ import annotations

from . import attention, feedforward, norm, recurrent, stream  # noqa: F401  (they register their lowerings)
from .decoder import ahead, decoder

__all__ = ["ahead", "decoder"]
