"""The hot operations. Each has a naive reference, which is what people read, and a fast form with the same signature;
they are tested against each other. `naive()` makes the models run on the references."""

from .attention import Mask, Scores, attention
from .choice import naive
from .grouped import grouped_linear

__all__ = ["Mask", "Scores", "attention", "grouped_linear", "naive"]
