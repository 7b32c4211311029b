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
from . import (  # noqa: F401
    attention,
    decoder,
    encoder,
    feedforward,
    head,
    indexer,
    layer,
    mtp,
    norm,
    position,
    recurrent,
    stream,
    towers,
)

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
