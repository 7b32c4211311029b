"""A description of each noun, in files that mirror those of `spec/`: importing this package registers them."""

from __future__ import annotations

from ..description import (
    Aspect,
    Callout,
    Description,
    Inner,
    Picture,
    about,
    callouts,
    describe,
    describes,
    facts,
    label,
    look,
    marks,
    phrase,
    title,
)
from . import attention, decoder, encoder, feedforward, indexer, norm, position, recurrent, stream, towers  # noqa: F401

__all__ = [
    "Aspect",
    "Callout",
    "Description",
    "Inner",
    "Picture",
    "about",
    "callouts",
    "describe",
    "describes",
    "facts",
    "label",
    "look",
    "marks",
    "phrase",
    "title",
]
