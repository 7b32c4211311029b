"""Vitruvius, the LLM architecture gallery that runs.

Every architecture is one short definition, a function from a checkpoint's config.json to a tree of frozen dataclasses; its
cost, drawing, differences and running model are all read from that tree.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import InputError

__version__ = "0.1.0"

# Public names and the modules they come from, imported on first use: `vitruvius cost` must start without torch.
_PUBLIC = {
    "architecture": "checkpoints.sources",
    "build": "nn.model",
    "catalog": "catalog",
    "compare": "views",
    "cost": "cost",
    "draw": "views.svg",
    "generate": "inference.generation",
    "load": "checkpoints.load",
    "replace": "edit",
    "save": "checkpoints.save",
    "tokenizer": "checkpoints.tokenizer",
}

__all__ = [*_PUBLIC, "InputError", "__version__", "spec"]
