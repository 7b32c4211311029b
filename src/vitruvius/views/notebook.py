"""How specs and costs show themselves: `print`, and the cells of Jupyter and marimo."""

from __future__ import annotations

from ..cost import Cost
from ..spec import Decoder
from ..spec.registry import DISPLAYS, Display
from .devices import device_table
from .svg import draw
from .table import cost_table, html_table, parts_rows, setting, totals_rows
from .text import figures, tree


def _decoder(arch: Decoder) -> str:
    """The drawing, and what its head does not say."""
    *_, state = figures(arch)
    return draw(arch).svg.replace("<svg ", '<svg style="max-width: 100%; height: auto" ', 1) + f"<p>{state}</p>"


def _cost(cost: Cost) -> str:
    totals = html_table([["", "in full", ""], *totals_rows(cost)], left=1)
    device = f"<pre>{device_table(cost)}</pre>" if cost.setting.device else ""
    return f"<h4>{cost.model}: {setting(cost)}</h4>{html_table(parts_rows(cost), left=1)}{totals}{device}"


def _cost_text(cost: Cost) -> str:
    return "\n\n".join(filter(None, (cost_table(cost), device_table(cost))))


DISPLAYS[Decoder] = Display(tree, _decoder)
DISPLAYS[Cost] = Display(_cost_text, _cost)
