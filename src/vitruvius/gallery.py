"""Drawings and differences of whatever names an architecture."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from .checkpoints.sources import Source, architecture
from .cost.setting import tokens
from .sizing import format_of

if TYPE_CHECKING:
    from .views import Difference, Drawing
    from .views.svg import Theme


def compare(
    a: Source,
    b: Source,
    context: int | str | None = None,
    batch: int = 1,
    dtype: str | None = None,
    ignore: Collection[str] = (),
) -> Difference:
    """What differs between two models.

    Args:
        a, b: trees, or whatever names one: catalog names, folders, config.json or .gguf files, hub ids.
        context: tokens of the sequences that are costed, by default the longest that both are made for; "128k" is
            131,072.
        batch: sequences at once.
        dtype: of activations and state (bf16, if None), and of weights where none are packed.
        ignore: keys of the configs that may go unread.
    """
    from .views import compare as compare_specs

    first, second = architecture(a, ignore), architecture(b, ignore)
    stored = (format_of(a, first, None, dtype, ignore), format_of(b, second, None, dtype, ignore))
    length = tokens(context) if isinstance(context, str) else context
    return compare_specs(first, second, length, batch, dtype or "bf16", stored)


def draw(source: Source, highlight: Iterable[str] = frozenset(), theme: Theme | None = None) -> Drawing:
    """The drawing of an architecture, which a notebook shows by itself; `.save(path)` writes it as SVG, PNG or PDF.

    Args:
        source: a tree, or whatever names one.
        highlight: canonical paths ("layers.0.mixer.body.mask"): what they name and what holds it gets another colour.
        theme: the colours, those for paper if None.
    """
    from .views import draw as draw_spec
    from .views.svg import PAPER

    return draw_spec(architecture(source), highlight, theme or PAPER)
