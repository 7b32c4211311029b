"""Writes docs/gallery/ and docs/claims.md, all of them from the catalog, and the tables of docs/serving.md:
`python docs/generate.py`.

Nothing here is typed by hand: figures, drawings, differences and values come from the library, names and sources from
its data. `tests/test_docs.py` writes everything anew and compares.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vitruvius import catalog
from vitruvius.catalog import Entry
from vitruvius.checkpoints.sources import architecture
from vitruvius.cost import Cost, cost
from vitruvius.cost.quantity import count, number, size
from vitruvius.errors import InputError
from vitruvius.server.api.fields import Field, Object
from vitruvius.server.api.listing import listed
from vitruvius.server.api.listing import phrase as values
from vitruvius.server.api.openapi import CALLED, GOT
from vitruvius.spec import (
    Attention,
    Decoder,
    LatentAttention,
    Layer,
    LayerKeyValue,
    Spec,
    walk,
)
from vitruvius.views import Difference, compare, draw, tree
from vitruvius.views.claims import Architecture, Check, Claim, claims, topics
from vitruvius.views.nouns import describe, phrase
from vitruvius.views.origins import as_precise

HERE = Path(__file__).parent
GENERATED = "<!-- Written by docs/generate.py: change the data, not this page. -->"
ROUNDED, UNCONFIRMED = "†", "‡"
SPACE = "\u00a0"  # where no line may end
LEGEND = {
    ROUNDED: "the definition gives another figure than the published one: see the notes",
    UNCONFIRMED: "something in the configuration is not confirmed: see the notes",
}
# The page of a family shows its largest model, but where another is more typical or there are two kinds.
DRAWN = {
    "Kimi": ("kimi-k2", "kimi-linear-48b-a3b"),
    "Qwen3": ("qwen3-32b", "qwen3-235b-a22b"),
    "Qwen3.5": ("qwen3.5-27b", "qwen3.5-397b-a17b"),
    "Switch Transformer": ("switch-base-8",),
}


@dataclass(frozen=True)
class Model:
    """A model of the catalog with all that is computed of it."""

    entry: Entry
    arch: Decoder
    cost: Cost

    @property
    def title(self) -> str:
        """Its name, marked if something in its configuration is not confirmed."""
        return escaped(self.entry.name) + (f"{SPACE}{UNCONFIRMED}" if self.entry.unconfirmed else "")


def generate(folder: Path) -> list[str]:
    """Writes all pages below `folder` and returns what could not be read, one line for each model."""
    models, unread = read()
    pages = {f"gallery/{name}": text for name, text in gallery(models)} | {"claims.md": claims_page(claims())}
    pages["serving.md"] = serving((HERE / "serving.md").read_text("utf-8"))
    (folder / "gallery").mkdir(parents=True, exist_ok=True)
    for stale in {path.name for path in (folder / "gallery").iterdir()} - {
        name.removeprefix("gallery/") for name in pages
    }:
        (folder / "gallery" / stale).unlink()
    for name, text in pages.items():
        beside = folder / f"{name}.part"
        beside.write_text(text, "utf-8")
        beside.replace(folder / name)
    return unread


def read() -> tuple[list[Model], list[str]]:
    """Every model of the catalog, and those that cannot be read with the reason."""
    models, unread = [], []
    for entry in catalog.entries():
        try:
            arch = architecture(entry.id)
        except InputError as error:
            unread.append(f"{entry.id}: {error}")
        else:
            models.append(Model(entry, arch, cost(arch)))
    return models, unread


# ------------------------------------------------------------------ gallery


def gallery(models: Sequence[Model]) -> Iterator[tuple[str, str]]:
    """(file name, text): the index, a page and a drawing for each family."""
    known = {model.entry.id: model for model in models}
    families: dict[str, list[Model]] = {}
    for model in models:
        families.setdefault(model.entry.family, []).append(model)
    yield "README.md", index(families)
    for family, members in families.items():
        chosen = [known[name] for name in DRAWN.get(family, ()) if name in known]
        drawn = chosen or [max(members, key=lambda model: model.cost.parameters.total)]
        yield from ((f"{model.entry.id}.svg", draw(model.arch).svg) for model in drawn)
        yield f"{slug(family)}.md", page(family, members, drawn, known)


def index(families: Mapping[str, Sequence[Model]]) -> str:
    """All models in one table, each family linked to its page."""
    rows = []
    for family, members in families.items():
        for model in members:
            link = f"[{escaped(family)}]({slug(family)}.md)" if model is members[0] else ""
            rows.append([link, model.title, model.entry.released or "", *_figures(model), attention(model.arch)])
    heads = ["family", "model", "released", "parameters", "active", "state per token", "context", "attention"]
    total = sum(map(len, families.values()))
    return joined(
        "# The gallery",
        GENERATED,
        f"{len(families)} families, {total} models. Every figure, drawing and comparison is computed from the model's "
        "definition, which is read from its `config.json`; [claims.md](../claims.md) holds the popular claims against "
        "them.",
        _conventions(),
        table(heads, rows, right=(3, 4, 5, 6)),
        legend([UNCONFIRMED], {UNCONFIRMED: "something in the configuration is not confirmed: see the family's page"}),
    )


def page(family: str, members: Sequence[Model], drawn: Sequence[Model], known: Mapping[str, Model]) -> str:
    """One family: drawings, figures, text, differences, licence and sources."""
    return joined(
        f"# {escaped(family)}",
        GENERATED,
        *map(_drawing, drawn),
        "## Sizes",
        _sizes(members),
        "## In text",
        *(code(tree(model.arch)) for model in drawn),
        *_differences(members, known),
        "## Release, licence, weights",
        _releases(members),
        *_notes(members),
        "## Sources",
        *_sources(members),
        "[All families](README.md)",
    )


def _drawing(model: Model) -> str:
    name, file = escaped(model.entry.name), f"{model.entry.id}.svg"
    return f"[![The architecture of {name}]({file})]({file})\n\n*{name}. The same as text [below](#in-text).*"


def _figures(model: Model) -> list[str]:
    c = model.cost
    p = c.parameters
    active = "" if p.active == p.total else count(p.active)
    return [*map(unbroken, (count(p.total), active, size(c.state.bytes_per_token))), number(c.state.context)]


def _conventions() -> str:
    return (
        "Parameters are those of the text model: a tied matrix once, multi-token prediction and vision apart. "
        "*Active* are the weights that one token uses, both embeddings included. State (the KV cache) is in bf16; "
        "*per token* is what one more token adds while no window is full."
    )


def _sizes(members: Sequence[Model]) -> str:
    """Exact figures above published ones; of these, one that no way of counting gives is marked."""
    sparse = any(model.cost.parameters.active < model.cost.parameters.total for model in members)
    heads = ["model", "layers × width", "parameters", *(["active"] if sparse else [])]
    heads += ["state per token", "at full context", "context"]
    rows = []
    for model in members:
        p, published = model.cost.parameters, model.entry.published
        active = stated(p.active, published["active"], active_figures(model)) if p.active < p.total else ""
        rows.append(
            [
                model.title,
                unbroken(f"{len(model.arch.layers)} × {number(model.arch.width)}"),
                stated(p.total, published["total"], [p.total]),
                *([active] if sparse else []),
                unbroken(size(model.cost.state.bytes_per_token)),
                unbroken(size(model.cost.state.bytes)),
                number(model.cost.state.context),
            ]
        )
    shown = table(heads, rows, right=range(1, len(heads)))
    used = [mark for mark in LEGEND if mark in shown]
    return joined(_conventions(), shown, *([legend(used, LEGEND)] if used else []))


def stated(exact: int, published: str | None, figures: Sequence[int]) -> str:
    """An exact figure, and below it the published one."""
    return number(exact) + (f"<br>{unbroken(f'published: {marked(published, figures)}')}" if published else "")


def active_figures(model: Model) -> list[int]:
    """The three ways in which vendors count active parameters."""
    p = model.cost.parameters
    return [p.active, p.active_without_input_embedding, p.active_without_embeddings]


def marked(published: str, figures: Sequence[int]) -> str:
    """The published figure, marked where no figure of ours rounds to it."""
    return published if published in {as_precise(published, f) for f in figures} else f"{published}{SPACE}{ROUNDED}"


def _differences(members: Sequence[Model], known: Mapping[str, Model]) -> Iterator[str]:
    """What differs from the predecessor, in full where a part differs, in a line where only numbers do."""
    before = ((model, known.get(model.entry.predecessor or "")) for model in members)
    pairs = [(model, other) for model, other in before if other]
    pairs.sort(key=lambda pair: pair[0].entry.family == pair[1].entry.family)  # other families first
    told: list[str] = []
    alike: list[str] = []
    for model, other in pairs:
        difference = compare(other.arch, model.arch)
        pair = f"{escaped(model.entry.name)} against {escaped(other.entry.name)}"
        if difference.same:
            alike.append(f"- {pair}: the same architecture.")
        elif other.entry.family == model.entry.family and not difference.nouns:
            alike.append(f"- {pair}: {_numbers(difference)}.")
        else:
            told += [f"### {pair}", code(str(difference))]
    if told or alike:
        yield "## What differs from the predecessor"
    yield from told
    if told and alike:
        yield "### Otherwise the same"
    if alike:
        yield "\n".join(alike)


def _numbers(difference: Difference) -> str:
    return "; ".join(f"{change.what} {_value(change.a)} → {_value(change.b)}" for change in difference.numbers)


def _value(value: str | float) -> str:
    return escaped(value) if isinstance(value, str) else number(value)


def _releases(members: Sequence[Model]) -> str:
    rows = []
    for model in members:
        entry = model.entry
        link = f"[{escaped(entry.repository)}](https://huggingface.co/{entry.repository})" if entry.repository else ""
        rows.append([escaped(entry.name), f"`{entry.id}`", entry.released or "", escaped(entry.license or ""), link])
    return table(["model", "in the catalog", "released", "licence", "weights"], rows)


def _notes(members: Sequence[Model]) -> Iterator[str]:
    """What the published figures do not agree with, what they count, and what is not confirmed."""
    lines = [f"- {model.title}: {text}" for model in members for text in _remarks(model)]
    if lines:
        yield "## Notes"
        yield "\n".join(lines)


def _remarks(model: Model) -> Iterator[str]:
    published, vision = model.entry.published, model.entry.exact["with_vision"]
    for label, given, figures in (
        ("parameters", published["total"], [model.cost.parameters.total]),
        ("active parameters", published["active"], active_figures(model)),
    ):
        if given and ROUNDED in marked(given, figures):
            ours = " or ".join(dict.fromkeys(as_precise(given, figure) for figure in figures))
            yield f"{given} {label} are published, the definition gives {ours}{SPACE}{ROUNDED}."
    if published["note"]:
        yield escaped(published["note"])
    if vision:
        rounded = as_precise(published["total"], vision)
        yield f"with vision {number(vision)} parameters ({rounded}), recorded from transformers 5.23.0."
    for text in model.entry.unconfirmed:
        yield f"not confirmed: {escaped(text)}"


def _sources(members: Sequence[Model]) -> Iterator[str]:
    """Each source once, with the models that it serves where these are not all."""
    uses: dict[str, list[str]] = {}
    for model in members:
        for source in (*model.entry.sources, f"published figures: {model.entry.published['source']}"):
            uses.setdefault(source, []).append(escaped(model.entry.name))
    lines = []
    for source, names in uses.items():
        served = f" ({', '.join(names)})" if len(names) < len(members) else ""
        lines.append(f"- {escaped(source)}{served}")
    yield "\n".join(lines)


def attention(arch: Decoder) -> str:
    """The decoder's mixers in few words: "GQA 32/16: 52 × window 1,024, 10 × full"."""
    sorts: dict[str, Counter[str]] = {}
    for layer in arch.layers:
        for mixer in mixers(layer, arch.width):
            name, mask = named(mixer)
            sorts.setdefault(name, Counter())[mask] += 1
    told = []
    for name, counts in sorts.items():
        times = f"{counts.total()} × " if len(sorts) > 1 else ""
        if len(counts) > 1:
            told.append(f"{times}{name}: {', '.join(f'{n} × {sees}' for sees, n in counts.items())}")
        else:
            told.append(f"{times}{', '.join([name, *(sees for sees in counts if sees not in ('', 'full'))])}")
    return "; ".join(told)


def mixers(layer: Layer, width: int) -> Iterator[Spec]:
    """Where tokens meet among themselves."""
    return (node.spec for node in walk(layer, width) if "attention" in describe(node.spec).filters)


def named(mixer: Spec) -> tuple[str, str]:
    """What it is, and what it sees."""
    name = describe(mixer).filters["attention"]
    if not isinstance(mixer, Attention | LatentAttention):
        return name, ""
    mask = describe(mixer.mask).short or phrase(mixer.mask)
    if not isinstance(mixer, Attention):
        return name, mask
    shared = " with another layer's keys" if isinstance(mixer.kv, LayerKeyValue) else ""
    return f"GQA {mixer.heads}/{mixer.kv.heads}" if name == "GQA" else name, f"{mask}{shared}"


# ------------------------------------------------------------------ claims


def claims_page(all_claims: Sequence[Claim]) -> str:
    """Every claim with its verdict, what is right, the value that the library computes, and the source."""
    by_topic = topics(all_claims)
    verdicts = Counter(claim.verdict for claim in all_claims)
    computed = sum(bool(claim.checks) for claim in all_claims)
    known = cache(architecture)
    heads = ["claim", "verdict", "what is right, and who says so", "computed here"]
    parts = [
        "# Claims, checked",
        GENERATED,
        (
            "Quantitative claims about these architectures that circulate in talks, notes and guides: "
            f"{len(all_claims)} of them, {', '.join(f'{times} {verdict}' for verdict, times in verdicts.items())}. "
            f"For {computed} the value is computed here, by the library, from the models' definitions or by "
            "arithmetic on published figures; a test recomputes it. Benchmark scores are left out, and so is what has "
            "no source."
        ),
    ]
    for topic, some in by_topic.items():
        rows = [
            [
                f'<a id="{claim.id}"></a>{escaped(claim.claim)}',
                f"**{unbroken(claim.verdict)}**",
                f"{escaped(claim.right)}<br><sub>{escaped('; '.join(claim.sources))}</sub>",
                "<br>".join(_shown(check, known) for check in claim.checks),
            ]
            for claim in some
        ]
        parts += [f"## {escaped(topic)}", table(heads, rows)]
    return joined(*parts)


def _shown(check: Check, known: Architecture) -> str:
    return f"{escaped(check.what)}: **{unbroken(escaped(check.shown(known)))}**"


# ------------------------------------------------------------------ serving


def serving(text: str) -> str:
    """The page of the server, with its tables between their marks written anew."""
    rows = [[f"`POST {path}`", each.about, "yes" if each.streams else ""] for path, each in CALLED.items()]
    rows += [[f"`GET {path}`", about, ""] for path, (about, _) in GOT.items()]
    text = marked_off(text, "endpoints", table(["endpoint", "does", "in pieces too"], rows))
    return marked_off(text, "fields", joined(*(request(path, each.body) for path, each in CALLED.items())))


def marked_off(text: str, name: str, new: str) -> str:
    """The text with what stands between the marks of that name replaced."""
    before, mark, rest = text.partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition("<!-- end -->")
    assert end, f"no place for {name}"
    return f"{before}{mark}{GENERATED}\n\n{new}\n\n{end}{after}"


def request(path: str, body: Object) -> str:
    """What an endpoint honours, what it takes without effect, and what it refuses with a reason."""
    found = list(listed(body))
    rows = []
    for name, entry in found:
        if entry.effect == "honoured" and not re.search(r"[.\[]", name):
            named = f"**`{name}`**" if entry.required else f"`{name}`"
            rows.append([named, escaped(values(entry.kind.schema())), entry.about])
    inside = [f"`{name}`" for name, entry in found if entry.effect == "honoured" and re.search(r"[.\[]", name)]
    without = [f"`{name}`{_only(entry)}" for name, entry in found if entry.effect == "accepted"]
    parts = [f"### `{path}`", "Honoured:", table(["field", "value", ""], rows)]
    parts += [f"and in them {', '.join(inside)}."] if inside else []
    parts += [f"Taken without effect: {', '.join(without)}."] if without else []
    refused = [f"`{name}` ({why})" for name, why in body.refused.items() if name not in body.fields]
    refused += [f"`{name}` with another value ({why})" for name, why in body.refused.items() if name in body.fields]
    parts += [f"Refused, as all others: {', '.join(refused)}."] if refused else []
    return joined(*parts)


def _only(entry: Field) -> str:
    """The values of a field without effect, where there are few."""
    schema = entry.kind.schema()
    return f" ({values(schema) or 'empty'})" if "enum" in schema else ""


# ------------------------------------------------------------------ Markdown


def slug(family: str) -> str:
    """A family's file name: "llama-4" for "Llama 4"."""
    return re.sub(r"[^a-z0-9.]+", "-", family.casefold()).strip("-")


def escaped(text: str) -> str:
    """Text in which nothing is taken for Markdown, on one line."""
    return re.sub(r"([\\|<*_$`\[\]])", r"\\\1", " ".join(text.split()))


def unbroken(text: str) -> str:
    """Text that stays on one line."""
    return text.replace(" ", SPACE)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> str:
    """A Markdown table, the columns `right` aligned to the right."""
    rule = ["---:" if i in set(right) else "---" for i in range(len(heads))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, rule, *rows))


def legend(marks: Iterable[str], meanings: Mapping[str, str]) -> str:
    """What the marks mean."""
    return "<br>".join(f"{mark} {meanings[mark]}" for mark in marks)


def code(text: str) -> str:
    """Text as it stands."""
    return f"```text\n{text}\n```"


def joined(*parts: str) -> str:
    """Paragraphs."""
    return "\n\n".join(parts) + ("\n" if parts[0].startswith("# ") else "")


if __name__ == "__main__":
    for line in generate(HERE):
        print(f"left out: {line}")
