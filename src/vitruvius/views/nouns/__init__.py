"""A description of each noun, in files that mirror those of `spec/`: importing this package registers them."""

from __future__ import annotations

from ..description import about, callouts, describe, facts, label, look, marks, phrase, title
from . import attention, decoder, encoder, feedforward, indexer, norm, position, recurrent, stream  # noqa: F401

__all__ = ["about", "callouts", "describe", "facts", "label", "look", "marks", "phrase", "title"]
