"""Edited architectures as folders that other programs run: config.json, names, and the code that transformers loads.

Three classes of folders: a model of a known family needs no code, transformers and the engines have its class; a tree
of plain attention layers brings `modeling_vitruvius.py`, which transformers, vLLM and SGLang run; any other tree brings
`modeling_vitruvius_tree.py`, which runs it in transformers by vitruvius.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from ..checkpoints import matching
from ..checkpoints.matching import PLAIN_CLASS, TREE_CLASS
from ..spec import Decoder, Tensors, from_json, to_json, walk

if TYPE_CHECKING:
    from ..nn import Decoder as Model

Json = Mapping[str, Any]
CONFIGURATION, PLAIN_CODE = "configuration_vitruvius", "modeling_vitruvius"
TREE_CODE = (
    "modeling_vitruvius_tree"  # with a config class of its own: in one process transformers knows one by its name
)
CUT_ROWS = ("heads", "kv_heads", "hidden")  # the ways of cutting an axis that tensor parallelism shares out


@dataclass(frozen=True)
class Export:
    """How a tree is written: its config.json, the names of its tensors, and why engines cannot run it, if they
    cannot."""

    config: Json
    names: tuple[Tensors, ...]
    reason: str | None = None


def export(decoder: Decoder) -> Export:
    """How a tree is written that is no known family's."""
    tree = to_json(decoder)
    reason = next(_reasons(tree), None)
    if reason and (decoder.encoder or not decoder.writes):
        return Export({"model_type": "vitruvius", "tree": tree}, matching.canonical(decoder), reason)
    config = {
        "model_type": "vitruvius",
        "hidden_size": decoder.width,
        "num_hidden_layers": len(decoder.layers),
        "max_position_embeddings": decoder.context,
        "vocab_size": decoder.embedding.vocab,
        "tie_word_embeddings": decoder.embedding.tied,
        "use_cache": reason is None,
    }
    if reason:
        auto = {"AutoConfig": f"{TREE_CODE}.VitruviusTreeConfig", "AutoModelForCausalLM": f"{TREE_CODE}.{TREE_CLASS}"}
        config |= {"model_type": "vitruvius_tree", "architectures": [TREE_CLASS], "auto_map": auto, "tree": tree}
        return Export(config, matching.inside(decoder), reason)
    auto = {
        "AutoConfig": f"{CONFIGURATION}.VitruviusConfig",
        "AutoModel": f"{PLAIN_CODE}.VitruviusModel",
        "AutoModelForCausalLM": f"{PLAIN_CODE}.{PLAIN_CLASS}",
    }
    config |= {"architectures": [PLAIN_CLASS], "auto_map": auto, **_plain(decoder, tree), "tree": tree}
    return Export(config, matching.exported(decoder))


def code(config: Json) -> Iterator[tuple[str, str]]:
    """File name -> text of the code that a config.json names."""
    for module in sorted({str(name).partition(".")[0] for name in config.get("auto_map", {}).values()}):
        if module in (CONFIGURATION, PLAIN_CODE, TREE_CODE):
            yield f"{module}.py", resources.files(__package__).joinpath(f"{module}.py").read_text("utf-8")


def tree_model(tree: Any) -> Model:
    """The model of a tree as JSON, its weights to be filled, on the device that PyTorch is told to use."""
    from ..nn import Decoder as Made
    from ..nn.model import make

    decoder = from_json(tree)
    model = make(decoder, decoder.width)
    assert isinstance(model, Made)
    return model


# ------------------------------------------------------------------ what engines can run


def _reasons(tree: Json) -> Iterator[str]:
    """Why a tree is not one of plain attention layers, as vLLM's and SGLang's backends for transformers run them."""
    if tree["encoder"] or tree["positions"] or tree["mtp"] or tree["embedding"]["per_layer"]:
        yield "it has an encoder, learned positions, layers for multi-token prediction or inputs of each layer"
    if not tree["head"] or tree["head"]["is"] != "Head":
        yield "its head does not predict tokens"
    for i, layer in enumerate(tree["layers"]):
        yield from (f"layer {i} has {what}" for what in _unusual(layer))
    if any(_differ(_bodies(tree, "mixer"), *path) for path in (("heads",), ("kv", "heads"), ("softmax", "softcap"))):
        yield "its layers differ in heads or in the cap of their scores, of which engines know one"
    if any(_differ(_bodies(tree, "mixer"), *path) for path in (("head_dim",), ("softmax", "sinks"))):
        yield "its layers differ in the channels of a head or in having sinks"
    windows = {body["mask"]["size"] for body in _bodies(tree, "mixer") if body["mask"]["is"] == "Window"}
    if len(windows) > 1:
        yield f"it has windows of {', '.join(map(str, sorted(windows)))} tokens, and engines know one size"
    mixtures = [body for body in _bodies(tree, "mlp") if body["is"] == "MoE"]
    if any(_differ(mixtures, *path) for path in (("router", "experts"), ("router", "active"), ("expert", "dim"))):
        yield "its mixtures of experts differ in size"


def _unusual(layer: Json) -> Iterator[str]:
    branches = layer["branches"]
    if layer["around"] or [branch["name"] for branch in branches] != ["mixer", "mlp"]:
        yield "other branches than attention and then a feed-forward layer, or several streams"
        return
    mixer, mlp = (branch["body"] for branch in branches)
    if mixer["is"] != "Attention" or mixer["kv"]["is"] != "KeyValue":
        yield f"{mixer['is']} with {mixer['kv']['is']}" if mixer["is"] == "Attention" else mixer["is"]
        return
    if mixer["mask"]["is"] not in ("Causal", "Window"):
        yield f"the mask {mixer['mask']['is']}"
    if mixer["positions"] and mixer["positions"]["is"] != "RoPE":
        yield f"the positions {mixer['positions']['is']}"
    if mixer["kv"]["v_dim"] != mixer["head_dim"]:
        yield "values of other sizes than keys"
    if mixer["softmax"]["temperature"]:
        yield "a temperature that depends on the position"
    if mlp["is"] == "MoE":
        yield from _unusual_experts(mlp)
    elif mlp["is"] not in ("MLP", "GatedMLP"):
        yield mlp["is"]
    elif _sparse(mlp):
        yield "an activation that keeps the largest channels only"


def _unusual_experts(moe: Json) -> Iterator[str]:
    """What the engines' fused experts do not know, and would leave out in silence."""
    router, expert, shared = moe["router"], moe["expert"], moe["shared"]
    if router["groups"] or router["capacity"] is not None or router["norm"] or router["expert_scale"]:
        yield "a router with groups, a capacity, a norm or scales of its experts"
    if moe["weigh"] != "output" or moe["latent"] or moe["norm"]:
        yield "experts with weighed inputs, another width or a norm of their own"
    usual = {"is": "GatedMLP", "act": "silu", "bias": False, "gate_scale": 1.0}
    if {**expert, **usual} != expert:
        yield "experts that are no SwiGLU"
    if shared and (shared["is"] not in ("MLP", "GatedMLP") or _sparse(shared)):
        yield "a shared expert with a gate"


def _sparse(mlp: Json) -> bool:
    return not isinstance(mlp["act"], str) and mlp["act"]["is"] != "ClampedSwiGLU"


def _bodies(tree: Json, name: str) -> list[Json]:
    return [branch["body"] for layer in tree["layers"] for branch in layer["branches"] if branch["name"] == name]


def _differ(nodes: Iterable[Json], *path: str) -> bool:
    found = set()
    for node in nodes:
        value: Any = node
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        found.add(value)
    return len(found) > 1


# ------------------------------------------------------------------ config.json


def _plain(decoder: Decoder, tree: Json) -> dict[str, Any]:
    """What transformers and engines look for in the config.json of plain attention layers."""
    mixers, mlps = _bodies(tree, "mixer"), _bodies(tree, "mlp")
    first, head = mixers[0], tree["head"]
    windows = [body["mask"].get("size") for body in mixers]
    dims = [body["dim"] for body in mlps if body["is"] != "MoE"]
    rotary, of_layer = _rotary(decoder)
    config = {
        "num_attention_heads": first["heads"],
        "num_key_value_heads": first["kv"]["heads"],
        "head_dim": first["head_dim"],
        "hidden_act": "silu",
        "intermediate_size": max(dims, default=decoder.width),
        "layer_types": ["sliding_attention" if window else "full_attention" for window in windows],
        "sliding_window": next(filter(None, windows), None),
        "attn_logit_softcapping": first["softmax"]["softcap"],
        "final_logit_softcapping": head["softcap"],
        "logit_scale": head["scale"],
        "plain_scores": first["softmax"]["softcap"] is None and not first["softmax"]["sinks"],
        "initializer_range": 0.02,
        "rotary": rotary,
        "rotary_of_layer": of_layer,
        "base_model_tp_plan": _tensor_plan(decoder, tree),
    }
    for moe in (body for body in mlps if body["is"] == "MoE"):
        config["num_experts"], config["num_experts_per_tok"] = moe["router"]["experts"], moe["router"]["active"]
        config["moe_intermediate_size"] = moe["expert"]["dim"]
    return config


def _rotary(decoder: Decoder) -> tuple[list[dict[str, Any]], list[int | None]]:
    """The different rotary tables, and which of them each layer has."""
    kinds: dict[Any, int] = {}
    of_layer: list[int | None] = []
    for layer in decoder.layers:
        rope = getattr(layer.branches[0].body, "positions")  # noqa: B009  (which attention has: see `_unusual`)
        of_layer.append(kinds.setdefault(rope, len(kinds)) if rope else None)
    tables = [
        {
            "frequencies": list(rope.frequencies()),
            "interleaved": rope.interleaved,
            "attention_factor": rope.attention_factor,
        }
        for rope in kinds
    ]
    return tables, of_layer


def _tensor_plan(decoder: Decoder, tree: Json) -> dict[str, str] | None:
    """Module -> how transformers and engines cut its matrix: by rows or by columns, as its axes say. None, so that they
    refuse to cut, where a norm goes over all heads at once, of which a device would have some, and where there are
    experts: vLLM 0.32 cuts these by itself and then gives other tokens."""
    if any(body["is"] == "MoE" for body in _bodies(tree, "mlp")):
        return None
    if any(norm and norm["over"] == "projection" for body in _bodies(tree, "mixer") for norm in _norms(body)):
        return None
    plan = {}
    names = {entry.ours[0]: entry.theirs[0] for entry in matching.exported(decoder)}
    for node in walk(decoder, decoder.width):
        for name, weight, _ in node.weights():
            if len(weight.dimensions) != 2 or not name.startswith("layers."):
                continue
            rows, columns = ({axis.cut for axis in dimension} for dimension in weight.dimensions)
            style = "colwise" if rows & set(CUT_ROWS) else "rowwise" if columns & set(CUT_ROWS) else None
            if style:
                parts = names[name].removeprefix("model.").removesuffix(".weight").split(".")
                plan[".".join((parts[0], "*", *parts[2:]))] = style
    return plan


def _norms(body: Json) -> tuple[Json | None, Json | None]:
    return body["q_norm"], body["kv"]["k_norm"]
