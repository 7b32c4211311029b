"""What one asks of an architecture before reading it, and may filter by."""

from __future__ import annotations

from typing import Any

from ..catalog import Entry
from ..cost.counting import counted, parameters
from ..cost.dtypes import stored
from ..cost.part import MTP, headed
from ..spec import (
    Attention,
    Causal,
    Chunk,
    Decoder,
    EncoderKeyValue,
    GatedDeltaNet,
    Indexer,
    KimiDelta,
    LatentAttention,
    LayerIndexer,
    LayerKeyValue,
    Mamba2,
    MoE,
    Node,
    PerToken,
    ShortConv,
    Spec,
    StateEntry,
    Window,
    walk,
)
from ..views.drawing.kinds import kinds
from ..views.words import title

SHORT = {
    "multi-head attention": "MHA",
    "multi-query attention": "MQA",
    "grouped-query attention": "GQA",
    "multi-head latent attention": "MLA",
}
STATE = "bf16"  # where the architecture fixes no other dtype
RECURRENT = (GatedDeltaNet, KimiDelta, Mamba2, ShortConv)
SEEN = {Window: "sliding window", Chunk: "chunked", Indexer: "sparse indexer", LayerIndexer: "sparse indexer"}


def card(arch: Decoder, entry: Entry | None) -> dict[str, Any]:
    """The key facts of one architecture. What is not known is null; `license` and `released` are the catalog's."""
    counts, state = parameters(counted(arch)), _state(arch)
    nodes = [node for node in walk(arch, arch.width) if not node.path.startswith("mtp")]
    mixtures, hybrid = [n for n in nodes if isinstance(n.spec, MoE)], _hybrid(nodes)
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
        "context": arch.context,
        "layers": len(arch.layers),
        "width": arch.width,
        "vocabulary": arch.embedding.vocab,
        "experts": max((n.spec.router.experts for n in mixtures if isinstance(n.spec, MoE)), default=None),
        "kind": " ".join(filter(None, ("hybrid" if hybrid else "", "MoE" if mixtures else "dense"))),
        "attention": _attention(nodes),
        "features": _features(arch, nodes),
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


def _hybrid(nodes: list[Node]) -> bool:
    """Whether something other than attention carries memory from token to token."""
    return any(isinstance(node.spec, RECURRENT) for node in nodes)


def _attention(nodes: list[Node]) -> list[str]:
    """The ways in which tokens meet, the commonest first."""
    count: dict[str, int] = {}
    for node in nodes:
        if node.spec.mixes and isinstance(node.spec, (Attention, LatentAttention, *RECURRENT)):
            if isinstance(node.spec, Attention) and isinstance(node.spec.kv, EncoderKeyValue):
                continue
            name = SHORT.get(title(node.spec), title(node.spec))
            count[name] = count.get(name, 0) + 1
    return sorted(count, key=lambda name: -count[name])


def _features(arch: Decoder, nodes: list[Node]) -> list[str]:
    """What sets an architecture apart, beside its attention."""
    found = [SEEN[type(n.spec.mask)] for n in _attending(nodes) if type(n.spec.mask) in SEEN]
    if {type(n.spec.mask) for n in _attending(nodes)} > {Causal}:
        found.append("local and global")
    told = {
        "QK norm": any(isinstance(n.spec, Attention) and n.spec.q_norm for n in nodes),
        "attention sinks": any(n.spec.softmax.sinks for n in _attending(nodes)),
        "no positions in some layers": _some_without_positions(nodes),
        "shared keys and values": any(isinstance(_kv(n.spec), LayerKeyValue) for n in nodes),
        "output gate": any(isinstance(n.spec, Attention) and n.spec.gate for n in nodes),
        "shared expert": any(isinstance(n.spec, MoE) and n.spec.shared for n in nodes),
        "softcap": arch.head.softcap is not None or any(n.spec.softmax.softcap for n in _attending(nodes)),
        "tied embeddings": arch.embedding.tied,
        "multi-token prediction": bool(arch.mtp),
        "encoder": arch.encoder is not None,
    }
    return list(dict.fromkeys([*found, *(name for name, there in told.items() if there)]))


def _attending(nodes: list[Node]) -> list[Any]:
    return [node for node in nodes if isinstance(node.spec, (Attention, LatentAttention))]


def _some_without_positions(nodes: list[Node]) -> bool:
    positions = {node.spec.positions is None for node in _attending(nodes)}
    return positions == {True, False}


def _kv(spec: Spec) -> Any:
    return spec.kv if isinstance(spec, Attention) else None
