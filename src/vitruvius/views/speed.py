"""What `vitruvius bench` has measured, as a chart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .charts import BAR, INKS, MODELS, SCHEMA, WIDTH, Spec, config
from .plot import Chart

Bar = tuple[str, str, float, float]  # what was measured, the engine, its tokens per second, ours ÷ its


def speeds(title: str, subtitle: str, bars: Iterable[Bar], ink: str = "light") -> Chart:
    """A group of bars for each thing that was measured, an engine each; the first engine is ours."""
    rows = [
        {"measure": measure, "engine": engine, "rate": rate, "label": f"{rate:,.0f}" + _times(ratio)}
        for measure, engine, rate, ratio in bars
    ]
    return Chart(_described(title, subtitle, rows, ink))


def _times(ratio: float) -> str:
    return "" if ratio == 1 else f" (ours: {ratio:.2f} × as fast)"


def _described(title: str, subtitle: str, rows: list[dict[str, Any]], ink: str) -> Spec:
    engines = list(dict.fromkeys(str(row["engine"]) for row in rows))
    colors = INKS[ink]
    measures = list(dict.fromkeys(row["measure"] for row in rows))
    rate = {"field": "rate", "type": "quantitative", "axis": None}
    color = {"field": "engine", "scale": {"domain": engines, "range": list(MODELS[: len(engines)])}, "legend": None}
    return {
        "$schema": SCHEMA,
        "title": {"text": title, "subtitle": subtitle.split("; ")},
        "data": {"values": rows},
        "facet": {
            "row": {
                "field": "measure",
                "sort": measures,
                "title": None,
                "header": {
                    "labelOrient": "top",
                    "labelAnchor": "start",
                    "labelFontWeight": 600,
                    "labelColor": colors["ink"],
                },
            }
        },
        "resolve": {"scale": {"x": "independent", "y": "independent"}},
        "spec": {
            "width": WIDTH - 160,
            "height": {"step": BAR + 4},
            "encoding": {"y": {"field": "engine", "sort": engines, "title": None}, "x": rate},
            "layer": [
                {"mark": {"type": "bar", "height": BAR - 4}, "encoding": {"color": color}},
                {"mark": {"type": "text", "align": "left", "dx": 6}, "encoding": {"text": {"field": "label"}}},
            ],
        },
        "config": config(ink),
    }
