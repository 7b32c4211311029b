"""The readable executor: each part of the spec as a PyTorch module with its equation in `forward`."""

from .call import Call
from .decoder import Decoder
from .model import build, skeleton
from .state import Batch, Sequence
from .twin import Needs, Twin, twin

__all__ = ["Batch", "Call", "Decoder", "Needs", "Sequence", "Twin", "build", "skeleton", "twin"]
