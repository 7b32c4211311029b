"""What the explorer's page shows, as plain JSON: an index of cards, one record for each architecture, the lineage.

Everything is read from the definitions by the views and the cost engine; nothing is typed by hand. `files` names every
file of `data/`, so that what is served and what is exported are the same bytes.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib import resources
from typing import Any

from ... import __version__, catalog
from ...architectures import family_of
from ...catalog import Entry
from ...cost import Cost, cost
from ...cost.devices import devices
from ...cost.formats import Format, Plain
from ...cost.quantity import number
from ...cost.sliders import sliders
from ...errors import InputError
from ...sizing import from_config, released
from ...spec import NOUNS, Decoder, walk
from ...views import draw, tree
from ...views.changing import knobs
from ...views.charts import charts
from ...views.diff import Change, changes, properties
from ...views.drawing.document import stylesheet
from ...views.drawing.font import FILES
from ...views.drawing.kinds import drawn_for, kinds, patterns
from ...views.drawing.thumbnail import thumbnail
from ...views.nouns import phrase
from ...views.origins import figures
from ...views.parts import drawn_parts, node_kind
from ...views.search import ALSO, searchable
from ...views.svg import NIGHT, PAPER, Drawing
from ...views.symbols import symbols
from ...views.table import cost_table
from .forwards import forwards
from .keyfacts import card, runs
from .known import known

HOVERED_AT = 8192  # tokens of context at which a part's FLOPs are given, or the model's own if that is shorter
SHOWN = 3  # changes that stand on an edge of the lineage
ROOM = 96  # characters there for what their values are now


def index() -> dict[str, Any]:
    """The wall of cards, and what can be chosen in its filters."""
    cards = [card(known(entry.id), entry) for entry in catalog.entries()]
    return {
        "version": __version__,
        "architectures": cards,
        "filters": {name: _choices(cards, name) for name in ("family", "kind", "attention", "features", "license")},
    }


def _choices(cards: Iterable[dict[str, Any]], name: str) -> list[str]:
    values = [item for each in cards for item in (each[name] if isinstance(each[name], list) else [each[name]])]
    return sorted({value for value in values if value is not None}, key=str.casefold)


def page(arch: Decoder, entry: Entry | None = None, config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Everything that the page of one architecture shows; without an entry, of one from elsewhere, with its config."""
    at = min(HOVERED_AT, arch.context)
    drawing = draw(arch, theme=None)
    parts = drawn_parts(arch, (path for path in _paths(drawing) if path), at)
    c = cost(arch)
    return {
        **card(arch, entry),
        "drawing": _drawn(drawing),
        "folded": _drawn(draw(arch, theme=None, insides=False)),
        "parts": {path: asdict(part) | {"symbols": symbols(part.equation or "")} for path, part in parts.items()},
        "news": _news(entry) if entry else None,
        "parts_context": at,
        "kinds": _node_kinds({part.kind for part in parts.values()} - {""}),
        "layers_in_order": _strip(arch),
        "aspects": _aspects(arch),
        "cost": c.to_dict(),
        "pieces": sliders(arch, _packed(arch, entry, config)),
        "tables": {"cost": cost_table(c), "tree": tree(arch)},
        "boxes": _boxes(arch) if entry else [],
        "source": _source(arch),
        "config": entry.config if entry else config,
        "origins": _origins(entry, c) if entry else None,
    }


def _drawn(drawing: Drawing) -> dict[str, Any]:
    return {"svg": drawing.svg, "width": drawing.rect.width, "height": drawing.rect.height}


def _packed(arch: Decoder, entry: Entry | None, config: Mapping[str, Any] | None) -> Format | None:
    """The format of the files, where they are packed in one that is known."""
    with suppress(InputError):
        found = released(arch) if entry else from_config(config or {}, arch, "as config.json says")
        return None if isinstance(found, Plain) else found
    return None


def _paths(drawing: Drawing) -> list[str]:
    return [part.path for part, _ in drawing.root.walk()]


def _node_kinds(names: set[str]) -> dict[str, Any]:
    """class name -> what is read about it beside the parts that are of it."""
    code = forwards()
    return {
        name: {**asdict(node_kind(NOUNS[name])), "forward": code[name]._asdict() if name in code else None}
        for name in sorted(names)
    }


def _strip(arch: Decoder) -> dict[str, Any]:
    """Every layer's kind in order, and what the kinds are; `path` is where one of the kind is drawn."""
    shown = kinds(arch)
    return {
        "summary": "; ".join(f"{what} {text}" for what, text in patterns(arch).items()) or "all alike",
        "runs": runs(arch),
        "kinds": [
            {
                "name": kind.name,
                "path": f"layers.{kind.indices[0]}",
                "layers": list(kind.indices),
                "about": phrase(kind.layer),
            }
            for kind in shown
        ],
    }


def _aspects(arch: Decoder) -> list[dict[str, Any]]:
    """Every comparable property; `paths` are places of the drawing."""
    rows, drawn, norms = [], drawn_for(arch), _norms(arch)
    for row in properties(arch):
        paths = row.paths or (norms.get(row.role, ()) if row.label == "norms" else ())
        rows.append(
            {
                "section": _section(paths[0]) if paths else row.role or "model",
                "label": row.label,
                "role": row.role,
                "value": row.value,
                "paths": sorted(set(map(drawn, paths))),
            }
        )
    return rows


def _norms(arch: Decoder) -> dict[str, list[str]]:
    """Role of a branch -> its norms, of which "before and after" is no field that could be pointed at."""
    found: dict[str, list[str]] = {}
    for node in walk(arch, arch.width):
        branch, _, slot = node.path.rpartition(".")
        if slot in ("pre", "post"):
            name = branch.rpartition(".")[2]
            found.setdefault("feed-forward" if name == "mlp" else name, []).append(node.path)
    return found


def _section(path: str) -> str:
    steps = path.split(".")
    if "encoder" in steps:
        return "encoder"
    if steps[0] == "mtp":
        return "multi-token prediction"
    if steps[0] != "layers" or len(steps) < 3:
        return "model"
    return {"mixer": "mixer", "mlp": "feed-forward"}.get(steps[2], steps[2])


def _source(arch: Decoder) -> dict[str, str]:
    """The code of the function that reads this config: the definition."""
    module = sys.modules[family_of(arch).spec.__module__]
    return {"module": module.__name__, "code": inspect.getsource(module)}


def _origins(entry: Entry, c: Cost) -> dict[str, Any]:
    """Where the figures come from, and what is not confirmed."""
    return {
        "figures": [dict(zip(("what", "value", "origin"), row, strict=True)) for row in figures(entry, c)],
        "published": entry.published,
        "note": entry.published["note"],
        "unconfirmed": list(entry.unconfirmed),
        "unconfirmed_keys": list(entry.unconfirmed_keys),
        "sources": list(entry.sources),
        "repository": entry.repository,
        "license": {"value": entry.license, "source": entry.license_source},
        "released": {"value": entry.released, "source": entry.released_source},
        "derives": entry.derives,
    }


def _boxes(arch: Decoder) -> list[dict[str, Any]]:
    """What may be changed: each with the number of layers that it is about, and either its choices or its limits."""
    return [
        {
            "key": each.key,
            "label": each.knob.label,
            "value": each.knob.value,
            "choices": each.knob.choices,
            "least": each.knob.least,
            "most": each.knob.most,
            "layers": len(each.layers) if len(each.layers) < each.of else None,
        }
        for each in knobs(arch)
    ]


def lineage() -> dict[str, Any]:
    """Who derives from whom, and what changed on the way. Where no source says so, a model stands beside the one that
    it is best compared with: `relation` tells "weights" and "design" from "compared"."""
    edges = []
    for entry in catalog.entries():
        if entry.derives:
            edges.append(_edge(entry, entry.derives["parent"], entry.derives["takes"], entry.derives["source"]))
        elif entry.predecessor:
            edges.append(_edge(entry, entry.predecessor, "compared", None))
    return {"edges": edges}


def _news(entry: Entry) -> dict[str, str] | None:
    """What is new in a model after the one that it is best compared with."""
    parent = entry.predecessor or (entry.derives["parent"] if entry.derives else None)
    if parent is None:
        return None
    nouns, numbers = changes(known(parent), known(entry.id))
    return {"after": parent, "name": catalog.entry(parent).name, "label": _label(nouns, bool(numbers))}


def _edge(entry: Entry, parent: str, relation: str, source: str | None) -> dict[str, Any]:
    nouns, numbers = changes(known(parent), known(entry.id))
    return {
        "from": parent,
        "to": entry.id,
        "relation": relation,
        "source": source,
        "same": not (nouns or numbers),
        "label": _label(nouns, bool(numbers)),
        "nouns": [asdict(change) for change in nouns],
        "numbers": [asdict(change) for change in numbers],
    }


def _label(nouns: Sequence[Change], resized: bool) -> str:
    """A few words for an edge: what is another noun, and which if there is room, or that only numbers are others."""
    if not nouns:
        return "other sizes" if resized else "the same architecture"
    more = f" and {len(nouns) - SHOWN} more" if len(nouns) > SHOWN else ""
    first = nouns[:SHOWN]
    return "; ".join(_in_words(change, ROOM // len(first)) for change in first) + more


def _in_words(change: Change, room: int) -> str:
    now = change.b if isinstance(change.b, str) else number(change.b)
    if now == "none":
        return f"no {change.what}"
    return f"{change.what}: {now}" if len(now) <= room else change.what


def search() -> dict[str, Any]:
    """What is searched: all that is said of each model, and the words that stand for others."""
    return {"also": ALSO, "said": {entry.id: searchable(known(entry.id), entry) for entry in catalog.entries()}}


def drawing_css() -> str:
    """The style of the drawings in the page: light, dark where the page or the system says so, and their font."""
    weights = {False: 400, True: 600}
    fonts = (
        f'@font-face{{font-family:"Inter";font-weight:{weights[bold]};font-display:swap;src:url(fonts/{file}) '
        'format("opentype")}'
        for bold, file in FILES.items()
    )
    system = stylesheet(NIGHT, ':root:not([data-theme="light"])')
    chosen = stylesheet(NIGHT, ':root[data-theme="dark"]')
    dark = f"@media (prefers-color-scheme: dark){{\n{system}\n}}"
    return "\n".join([*fonts, stylesheet(PAPER), dark, chosen]) + "\n"


def files() -> dict[str, Callable[[], bytes]]:
    """Path below `data/` -> its contents, made when asked for."""
    named: dict[str, Callable[[], bytes]] = {
        "index.json": lambda: encoded(index()),
        "lineage.json": lambda: encoded(lineage()),
        "devices.json": lambda: encoded([asdict(device) for device in devices()]),
        "search.json": lambda: encoded(search()),
        "charts.json": lambda: encoded(charts()),
        "drawing.css": lambda: drawing_css().encode(),
    }
    fonts = resources.files("vitruvius.views").joinpath("fonts")
    named |= {f"fonts/{file}": fonts.joinpath(file).read_bytes for file in (*FILES.values(), "OFL.txt")}
    for entry in catalog.entries():
        named |= _files_of(entry)
    return named


def _files_of(entry: Entry) -> dict[str, Callable[[], bytes]]:
    return {
        f"arch/{entry.id}.json": lambda: encoded(page(known(entry.id), entry)),
        f"thumbs/{entry.id}.svg": lambda: thumbnail(known(entry.id)).encode(),
    }


def encoded(value: Any) -> bytes:
    """Compact JSON in UTF-8, as JSON has it: no NaN, no infinity."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
