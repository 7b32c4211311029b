"""Finding architectures by what is said of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..catalog import Entry
from ..spec import Decoder, walk
from .nouns import describe, facts, title

# What people type, where the description has other words
ALSO = {
    "moe": "experts",
    "sinks": "sink",
    "nope": "no positions",
    "gqa": "grouped-query",
    "mqa": "multi-query",
    "mha": "multi-head",
    "mla": "latent attention",
    "swa": "window",
    "sliding": "window",
    "dense": "gated MLP",
}


NO_POSITIONS = "no positions in some layers"


def features(arch: Decoder) -> list[str]:
    """What sets an architecture apart, beside its attention: what its parts are tagged with, and how they differ."""
    described = [describe(node.spec) for node in walk(arch, arch.width) if not node.path.startswith("mtp")]
    found = [tag for each in (*described[1:], described[0]) for tag in each.tags]
    sides: dict[str, set[str]] = {}
    for each in described:
        for contrast, side in each.contrasts.items():
            sides.setdefault(contrast, set()).add(side)
    if sides.get(NO_POSITIONS) == {"none"} and arch.positions is None:
        found.append("no positions")
    return list(dict.fromkeys([*found, *(contrast for contrast, seen in sides.items() if len(seen) > 1)]))


def searchable(arch: Decoder, entry: Entry | None = None) -> str:
    """All that is said of an architecture, in lower case: names, date and licence, its features, and of each part its
    titles and facts."""
    said = [arch.name, arch.family]
    if entry:
        said += [entry.id, entry.name, entry.family, entry.released or "", entry.license or "", entry.repository or ""]
    seen = dict.fromkeys(node.spec for node in walk(arch, arch.width))
    for spec in seen:
        said += [title(spec), describe(spec).short or "", *facts(spec)]
    said += features(arch)
    return _plain(" · ".join(dict.fromkeys(said)))


def holds(text: str, words: Sequence[str]) -> bool:
    """Whether all words, or what they stand for, are in `text`, which `searchable` gives. A number belongs to the word
    after it: "128 experts"."""
    asked = re.sub(
        r"(?<!\S)(\d+) (?=[a-z])", r"\1_", " ".join(_plain(word).replace(" ", "_") for word in words)
    ).split()
    wanted = [word.replace("_", " ") for word in asked]
    return all(any(_plain(each) in text for each in (word, ALSO.get(word, word))) for word in wanted)


def _plain(text: str) -> str:
    """Without case, and without what words are joined by."""
    return re.sub(r"[-_\s]+", " ", text.casefold().replace(",", ""))
