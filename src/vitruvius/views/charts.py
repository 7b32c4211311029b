"""Charts as Vega-Lite descriptions: one for the page, the notebook and the command line.

`charts()` gives them without data: each names a data set "rows" (and "limits" or "points" where it has such), which
`plot` fills from `cost`, or a page from its pieces. Every chart is readable on light and dark ground, told apart by
more than colour (dashes, shapes, order), with units in its titles. Names of models are data, never markup: Vega draws
them as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"
WIDTH, HEIGHT, BAR = 560, 320, 22  # pixels

# What text, axes and grid are painted with. "neutral" has a contrast of at least 4.5 to both white and near-black.
INKS: Mapping[str, Mapping[str, str | None]] = {
    "neutral": {"ground": None, "ink": "#74808c", "muted": "#74808c", "line": "#8a96a355"},
    "light": {"ground": "#ffffff", "ink": "#1c2733", "muted": "#5f6c7a", "line": "#e3e7eb"},
    "dark": {"ground": "#12171d", "ink": "#e9edf1", "muted": "#a3afbb", "line": "#2a333d"},
}
# Of models, in order, after Okabe and Ito 2008, for colour-blind readers too; at least 3 to 1 on both grounds.
MODELS = ("#0a78bd", "#d9600a", "#0d9373", "#a8519c", "#a67c00", "#6b7a8f", "#c2456b", "#3f8f3f")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [12, 4], [4, 1])
PARTS: Mapping[str, str] = {  # attention blue, feed-forward green and embeddings violet, as in the drawings
    "attention": "#3a6fb0",
    "indexer": "#23879e",
    "recurrence": "#c06a35",
    "feed-forward": "#3a8a58",
    "experts": "#62ad7e",
    "shared experts": "#9fd0b2",
    "router": "#cba135",
    "embedding": "#7560ab",
    "per-layer embeddings": "#a78fd0",
    "head": "#b9aadc",
    "other": "#8a96a3",
}
MEMORY: Mapping[str, str] = {
    "weights": "#4f7196",
    "gradients": "#b0553a",
    "optimizer": "#8f62b3",
    "state": "#dd9a2b",
    "activations": "#2a9d8f",
}

Spec = dict[str, Any]


def charts(ink: str = "neutral") -> dict[str, Spec]:
    """Name -> Vega-Lite description without data. The rows of each:

    state             {model, policy, context, bytes}
    flops             {model, context, flops}
    latency           {model, batch, seconds, fits}
    throughput        {model, batch, tokens_per_second, fits}
    memory            {model, what, bytes, order}; limits {device, bytes}
    parameters        {model, of ("all" or "one token"), part, parameters, order}
    training          {model, tokens, hours}; points {model, tokens, hours, what}
    training-memory   as memory
    """
    specs = {
        "state": _state(),
        "flops": _flops(),
        "latency": _latency(),
        "throughput": _throughput(),
        "memory": _memory("Memory on each device", ("weights", "state", "activations")),
        "parameters": _parameters(),
        "training": _training(),
        "training-memory": _memory(
            "Training: memory on each device", ("weights", "gradients", "optimizer", "activations")
        ),
    }
    return {name: {"$schema": SCHEMA, **spec, "config": config(ink)} for name, spec in specs.items()}


def config(ink: str = "neutral") -> Spec:
    """How all charts look."""
    paint = INKS[ink]
    text = {"labelColor": paint["muted"], "titleColor": paint["ink"], "labelFontSize": 11, "titleFontSize": 12}
    return {
        "background": paint["ground"],
        "font": FONT,
        "padding": 12,
        "view": {"stroke": None},
        "title": {
            "anchor": "start",
            "frame": "group",
            "color": paint["ink"],
            "subtitleColor": paint["muted"],
            "fontSize": 15,
            "fontWeight": 600,
            "subtitleFontSize": 12,
            "subtitlePadding": 5,
            "offset": 14,
        },
        "axis": {
            **text,
            "titleFontWeight": 500,
            "titlePadding": 8,
            "gridColor": paint["line"],
            "domain": False,
            "ticks": False,
            "labelPadding": 6,
        },
        "legend": {
            **text,
            "orient": "bottom",
            "title": None,
            "columns": 4,
            "labelLimit": 220,
            "symbolStrokeWidth": 2.5,
            "offset": 12,
        },
        "line": {"strokeWidth": 2.25, "strokeCap": "round", "strokeJoin": "round"},
        "point": {"filled": True, "size": 46, "opacity": 1},
        "text": {"color": paint["ink"], "fontSize": 11},
        "rule": {"color": paint["ink"]},
        "bar": {"cornerRadius": 1.5},
    }


# ------------------------------------------------------------------ curves


def _state() -> Spec:
    encoding = {
        "x": _context(),
        "y": _log("bytes", "state of one sequence", SIZE),
        "color": _model(),
        "strokeDash": {
            "field": "policy",
            "type": "nominal",
            "sort": None,
            "scale": {"range": list(DASHES)},
            "legend": {"symbolType": "stroke"},
        },
        "tooltip": [*_tips("model", "policy"), _tip("context", ","), _tip("size", None)],
    }
    return {
        "title": {"text": "State against context"},
        "width": WIDTH,
        "height": HEIGHT,
        "data": {"name": "rows"},
        "transform": [{"calculate": _size("datum.bytes"), "as": "size"}],
        "encoding": encoding,
        "layer": [{"mark": {"type": "line", "clip": True}}, _end("context")],
    }


def _flops() -> Spec:
    return {
        "title": {"text": "Work for one more token"},
        "width": WIDTH,
        "height": HEIGHT,
        "data": {"name": "rows"},
        "transform": [{"calculate": _count("datum.flops", "FLOP"), "as": "work"}],
        "encoding": {
            "x": _context(),
            "y": _log("flops", "operations per token", _count("datum.value", "FLOP"), base=10),
            "color": _model(),
            "tooltip": [*_tips("model"), _tip("context", ","), _tip("work", None)],
        },
        "layer": [{"mark": {"type": "line", "clip": True}}, _end("context")],
    }


def _latency() -> Spec:
    return _against_batch("Time per token", "seconds", "a sequence waits for its next token", TIME, "time")


def _throughput() -> Spec:
    count = "format(datum.value, ',.4~r')"
    return _against_batch(
        "Throughput", "tokens_per_second", "tokens per second, all sequences", count, "tokens per second"
    )


def _against_batch(title: str, field: str, axis: str, labels: str, tip: str) -> Spec:
    """What fits into the devices' memory is drawn in full, what does not is dotted."""
    line = {"type": "line", "clip": True}
    return {
        "title": {"text": title},
        "width": WIDTH,
        "height": HEIGHT,
        "data": {"name": "rows"},
        "transform": [{"calculate": labels.replace("datum.value", f"datum['{field}']"), "as": tip}],
        "encoding": {
            "x": _log("batch", "sequences at once", "format(datum.value, ',.4~r')", base=2),
            "y": _log(field, axis, labels, base=10),
            "color": _model(),
            "tooltip": [*_tips("model"), _tip("batch", ","), _tip(tip, None)],
        },
        "layer": [
            {"mark": {**line, "strokeDash": [1.5, 4], "strokeWidth": 1.5, "opacity": 0.75}},
            {"transform": [{"filter": "datum.fits"}], "mark": line},
            {"transform": [{"filter": "datum.fits"}], "mark": "point", "encoding": {"shape": _shape()}},
        ],
    }


def _training() -> Spec:
    tips = [*_tips("model"), _tip("tokens", ".3s"), _tip("hours", ",.3s")]
    points = {
        "data": {"name": "points"},
        "mark": {"type": "point", "size": 110, "opacity": 1},
        "encoding": {
            "shape": {
                "field": "what",
                "type": "nominal",
                "sort": None,
                "scale": {"domain": ["20 tokens per parameter", "published"], "range": ["circle", "diamond"]},
                "legend": {"symbolFillColor": "#8a96a3", "symbolStrokeColor": "#8a96a3"},
            },
            "tooltip": [*tips, *_tips("what")],
        },
    }
    return {
        "title": {"text": "Training"},
        "width": WIDTH,
        "height": HEIGHT,
        "data": {"name": "rows"},
        "encoding": {
            "x": _log("tokens", "tokens trained on", _count("datum.value", ""), base=10),
            "y": _log("hours", "device hours", _count("datum.value", ""), base=10),
            "color": _model(),
            "tooltip": tips,
        },
        "layer": [{"mark": {"type": "line", "clip": True}}, points],
    }


# ------------------------------------------------------------------ bars


def _memory(title: str, order: tuple[str, ...]) -> Spec:
    tips = [*_tips("model", "what"), _tip("size", None)]
    limit = {"x": {"field": "gib", "type": "quantitative"}, "y": None, "color": {"value": "#d1266b"}}
    gib = {"calculate": f"datum.bytes / {2**30}", "as": "gib"}
    return {
        "title": {"text": title},
        "width": WIDTH,
        "height": {"step": 44},
        "layer": [
            {
                "data": {"name": "rows"},
                "transform": [gib, {"calculate": _size("datum.bytes"), "as": "size"}],
                "mark": {"type": "bar", "height": BAR, "stroke": "#ffffff", "strokeOpacity": 0.6, "strokeWidth": 0.75},
                "encoding": {
                    "y": _bars("model"),
                    "x": {
                        "field": "gib",
                        "type": "quantitative",
                        "stack": True,
                        "axis": {"title": "memory, GiB", "tickCount": 8, "format": ",~r"},
                    },
                    "order": {"field": "order", "type": "quantitative"},
                    "color": _named("what", {name: MEMORY[name] for name in order}),
                    "tooltip": tips,
                },
            },
            {
                "data": {"name": "limits"},
                "transform": [gib],
                "mark": {"type": "rule", "strokeWidth": 2, "strokeDash": [5, 3]},
                "encoding": limit,
            },
            {
                "data": {"name": "limits"},
                "transform": [gib],
                "mark": {"type": "text", "align": "right", "dx": -5, "baseline": "bottom", "dy": -4, "fontWeight": 600},
                "encoding": {**limit, "y": {"value": 0}, "text": {"field": "device"}},
            },
        ],
    }


def _parameters() -> Spec:
    row = {"calculate": "datum.model + (datum.of === 'all' ? '' : ', ' + datum.of)", "as": "row"}
    total = {"op": "sum", "field": "parameters", "as": "total"}
    return {
        "title": {"text": "Parameters by part"},
        "width": WIDTH,
        "height": {"step": 30},
        "data": {"name": "rows"},
        "transform": [row],
        "encoding": {"y": _bars("row")},
        "layer": [
            {
                "transform": [{"calculate": _count("datum.parameters", ""), "as": "count"}],
                "mark": {"type": "bar", "height": BAR, "stroke": "#ffffff", "strokeOpacity": 0.6, "strokeWidth": 0.75},
                "encoding": {
                    "x": {
                        "field": "parameters",
                        "type": "quantitative",
                        "stack": "norm_topk_eps",
                        "axis": {"title": "share of the parameters", "format": "%", "tickCount": 5},
                    },
                    "order": {"field": "order", "type": "quantitative"},
                    "color": _named("part", PARTS),
                    "tooltip": [*_tips("model", "of", "part"), _tip("count", None)],
                },
            },
            {
                "transform": [
                    {"aggregate": [total], "groupby": ["row"]},
                    {"calculate": _count("datum.total", ""), "as": "label"},
                ],
                "mark": {"type": "text", "align": "left", "dx": 6},
                "encoding": {"x": {"datum": 1, "type": "quantitative"}, "text": {"field": "label"}},
            },
        ],
    }


# ------------------------------------------------------------------ what they share


def _scaled(value: str, base: int, units: tuple[str, ...]) -> str:
    """A Vega expression for a figure as people read it: its leading digits and the unit."""
    last = len(units) - 1
    expression = f"format({value} / {base**last}, '.3~r') + '{units[last]}'"
    for power in reversed(range(last)):
        shown = f"format({value} / {base**power}, '.3~r') + '{units[power]}'"
        expression = f"{value} < {0.9995 * base ** (power + 1):.0f} ? {shown} : ({expression})"
    return f"({expression})"


def _size(value: str) -> str:
    return _scaled(value, 1024, (" B", " KiB", " MiB", " GiB", " TiB", " PiB"))


def _count(value: str, unit: str) -> str:
    letters = ("", "k", "M", "G", "T", "P", "E") if unit else ("", "K", "M", "B", "T", "P", "E")
    return _scaled(value, 1000, tuple(f" {letter}{unit}".rstrip() if letter or unit else "" for letter in letters))


SIZE = _size("datum.value")
TIME = _scaled("datum.value * 1000000", 1000, (" µs", " ms", " s"))


def _context() -> Spec:
    labels = _scaled("datum.value", 1024, ("", "k", "M"))
    return _log("context", "context, tokens (k = 1,024)", labels, base=2)


def _log(field: str, title: str, labels: str, base: int = 2) -> Spec:
    """A channel with a logarithmic scale; of ten values between powers of ten, 1, 2 and 5 are labelled."""
    axis: Spec = {"title": title, "labelExpr": labels, "labelOverlap": "greedy", "tickCount": 8}
    if base == 10:
        digit = "round(datum.value / pow(10, floor(log(datum.value) / LN10 + 1e-9)))"
        axis["labelExpr"] = f"indexof([1, 2, 5], {digit}) < 0 ? '' : {labels}"
        axis["gridOpacity"] = {"condition": {"test": f"{digit} === 1", "value": 1}, "value": 0.4}
    scale = {"type": "log", "base": base, "nice": False}
    return {"field": field, "type": "quantitative", "scale": scale, "axis": axis}


def _model() -> Spec:
    return {
        "field": "model",
        "type": "nominal",
        "sort": None,
        "scale": {"range": list(MODELS)},
        "legend": {"symbolType": "stroke", "symbolDash": [1, 0], "symbolOpacity": 1},
    }


def _shape() -> Spec:
    shapes = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left"]
    return {"field": "model", "type": "nominal", "sort": None, "scale": {"range": shapes}, "legend": None}


def _end(field: str) -> Spec:
    """A dot where each line ends: the longest context that the model is made for."""
    last = {"window": [{"op": "max", "field": field, "as": "last"}], "groupby": ["model"], "frame": [None, None]}
    return {"transform": [last, {"filter": f"datum['{field}'] === datum.last"}], "mark": {"type": "point", "size": 60}}


def _bars(field: str) -> Spec:
    axis = {"title": None, "labelLimit": 240, "labelFontSize": 12}
    return {"field": field, "type": "nominal", "sort": None, "axis": axis}


def _named(field: str, colors: Mapping[str, str]) -> Spec:
    """Colours by meaning; the legend names only what is there."""
    return {
        "field": field,
        "type": "nominal",
        "sort": list(colors),
        "scale": {"domain": list(colors), "range": list(colors.values())},
        "legend": {"symbolStrokeWidth": 0},
    }


def _tips(*fields: str) -> list[Spec]:
    return [{"field": field, "type": "nominal"} for field in fields]


def _tip(field: str, shown: str | None) -> Spec:
    """A line of a tooltip: a number in this format, or a text."""
    return {"field": field, "type": "quantitative", "format": shown} if shown else {"field": field, "type": "nominal"}
