"""The readable executor: each part of the spec as a PyTorch module with its equation in `forward`."""

from .decoder import Decoder
from .model import build, skeleton
from .state import State

__all__ = ["Decoder", "State", "build", "skeleton"]
