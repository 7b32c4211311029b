"""The hot operations. Each has a naive reference, which is what people read, and a fast form with the same signature;
they are tested against each other. `naive()` makes the models run on the references."""

from .attention import Mask, Scores, attention
from .choice import naive
from .conv import causal_conv
from .delta import delta_rule
from .grouped import Groups, grouped_linear
from .ssm import state_space

__all__ = [
    "Groups",
    "Mask",
    "Scores",
    "attention",
    "causal_conv",
    "delta_rule",
    "grouped_linear",
    "naive",
    "state_space",
]
