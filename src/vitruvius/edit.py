"""Editing an architecture in one line."""

from __future__ import annotations

from .checkpoints.sources import Source, architecture
from .errors import InputError
from .spec import Decoder, New, edit


def replace(source: Source, pattern: str, new: New) -> Decoder:
    """An edited tree: every place that `pattern` names ("layers.*.mixer.body") replaced by `new`.

    Args:
        source: a spec, or anything that `architecture` takes.
        pattern: fields, positions and names of branches, joined by dots; `*` is any one step.
        new: a value, or a function of the old one.

    Raises InputError if nothing is there, or if the result contradicts itself.
    """
    try:
        return edit(architecture(source), pattern, new)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(str(error)) from None
