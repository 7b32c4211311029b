"""The readable executor: each part of the spec as a PyTorch module with its equation in `forward`."""

from .call import Call
from .decoder import Decoder
from .inputs import Embedded
from .model import build, skeleton
from .state import Batch, Sequence
from .towers import Model, Tower
from .twin import Needs, Twin, twin

__all__ = [
    "Batch",
    "Call",
    "Decoder",
    "Embedded",
    "Model",
    "Needs",
    "Sequence",
    "Tower",
    "Twin",
    "build",
    "skeleton",
    "twin",
]
