"""Training: a recipe, data, the loop, the run's folder.

`train(recipe)` is the whole of it; nothing is kept between calls.
"""

from __future__ import annotations

from .batches import Batches, TokenBatch
from .recipe import Recipe, read
from .run import Trained, train

__all__ = ["Batches", "Recipe", "TokenBatch", "Trained", "read", "train"]
