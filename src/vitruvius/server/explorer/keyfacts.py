"""What one asks of an architecture before reading it, and may filter by."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ...catalog import Entry
from ...cost.counting import counted, parameters
from ...cost.dtypes import stored
from ...cost.part import MTP, headed
from ...spec import Decoder, Node, PerToken, StateEntry, walk
from ...views.drawing.kinds import kinds
from ...views.nouns import describe
from ...views.search import features

CONTEXTS = {"32k": 32 * 1024, "128k": 128 * 1024}  # at which cards tell the state
STATE = "bf16"  # where the architecture fixes no other dtype


def card(arch: Decoder, entry: Entry | None) -> dict[str, Any]:
    """The key facts of one architecture. What is not known is null; `license` and `released` are the catalog's."""
    counts, state = parameters(counted(arch)), _state(arch)
    nodes = [node for node in walk(arch, arch.width) if not node.path.startswith("mtp")]
    hybrid, mixture = _has(nodes, "memory", "recurrent"), _has(nodes, "experts", "MoE")
    shown = kinds(arch)
    return {
        "id": entry.id if entry else None,
        "name": entry.name if entry else arch.name,
        "family": entry.family if entry else arch.family,
        "released": entry.released if entry else None,
        "license": entry.license if entry else None,
        "unconfirmed": bool(entry and entry.unconfirmed),
        "parameters": counts.total,
        "active": counts.active,
        "state_per_token": sum(stored(s.elements(1), s.dtype or STATE) for s in state if isinstance(s, PerToken)),
        "state_at_context": sum(stored(s.elements(arch.context), s.dtype or STATE) for s in state),
        "state_at": {
            name: sum(stored(s.elements(n), s.dtype or STATE) for s in state) if n <= arch.context else None
            for name, n in CONTEXTS.items()
        },
        "context": arch.context,
        "layers": len(arch.layers),
        "width": arch.width,
        "vocabulary": arch.embedding.vocab,
        "experts": max((n for node in nodes if (n := describe(node.spec).figures.get("experts"))), default=None),
        "kind": " ".join(filter(None, ("hybrid" if hybrid else "", "MoE" if mixture else "dense"))),
        "attention": _attention(nodes),
        "features": features(arch),
        "strip": {"kinds": [kind.name for kind in shown], "runs": runs(arch)},
    }


def _state(arch: Decoder) -> list[StateEntry]:
    """What generation must remember, at the architectural minimum. `cost` says the same, and much else that a wall of
    cards need not wait for."""
    return [state for node, part in headed(arch) if part != MTP for state in node.spec.state().values()]


def runs(arch: Decoder) -> list[list[int]]:
    """The layers in order as runs of (number of their kind, how many)."""
    number = {index: i for i, kind in enumerate(kinds(arch)) for index in kind.indices}
    found: list[list[int]] = []
    for index in range(len(arch.layers)):
        if found and found[-1][0] == number[index]:
            found[-1][1] += 1
        else:
            found.append([number[index], 1])
    return found


def _has(nodes: list[Node], filter_: str, value: str) -> bool:
    return any(describe(node.spec).filters.get(filter_) == value for node in nodes)


def _attention(nodes: list[Node]) -> list[str]:
    """The ways in which tokens meet, the commonest first."""
    count = Counter(name for node in nodes if (name := describe(node.spec).filters.get("attention")))
    return [name for name, _ in count.most_common()]
