"""The readable executor: each part of the spec as a PyTorch module with its equation in `forward`."""

from .decoder import Decoder
from .model import build, skeleton
from .state import Batch, Sequence

__all__ = ["Batch", "Decoder", "Sequence", "build", "skeleton"]
