"""From the nouns of spec/ to operations, file by file. What is not in the table of `base` has no native form.

Other packages write lowerings with what is public here.
"""

from __future__ import annotations

from ..plan import Buffer, Builder, StateLayout, Target
from . import attention, feedforward, head, layer, norm, recurrent, stream  # noqa: F401  (they register their lowerings)
from .base import Linear, linear, lower, lowers, not_lowered, project
from .decoder import decoder
from .mtp import ahead
from .position import rotate

__all__ = [
    "Buffer",
    "Builder",
    "Linear",
    "StateLayout",
    "Target",
    "ahead",
    "decoder",
    "linear",
    "lower",
    "lowers",
    "not_lowered",
    "project",
    "rotate",
]
