"""The catalog is data: these tests prove it consistent. Its figures are tested where they are computed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict, fields
from importlib import metadata, resources
from typing import Any

import pytest

from vitruvius import architecture, catalog
from vitruvius.architectures import read
from vitruvius.errors import InputError
from vitruvius.spec import Spec
from vitruvius.views.diff import changes

ENTRIES = catalog.entries()
FOLDER = resources.files(catalog).joinpath("models")
FILES = {file.name: json.loads(file.read_text("utf-8")) for file in FOLDER.iterdir()}
BY_ENTRY = pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.id)
MODEL_TYPES = sorted({e.config.get("text_config", e.config)["model_type"] for e in ENTRIES})


def value(config: dict[str, Any], path: str) -> Any:
    for key in path.split("."):
        config = config[key]
    return config


def text_config(entry: catalog.Entry) -> dict[str, Any]:
    """The text model's config, with what a silent file means."""
    config = entry.config.get("text_config", entry.config)
    return {**catalog.implicit(config["model_type"]), **config}


def test_every_file_is_an_entry_under_its_own_name() -> None:
    assert sorted(FILES) == sorted(f"{e.id}.json" for e in ENTRIES)


@BY_ENTRY
def test_an_entry_holds_all_that_its_file_holds(entry: catalog.Entry) -> None:
    record, file = json.loads(json.dumps(asdict(entry))), dict(FILES[f"{entry.id}.json"])
    config, own = record.pop("_config"), file.pop("config", {})
    parts = {key: file.pop(key, {}) for key in ("published", "exact")}
    assert own.items() <= config.items() or own["text_config"].items() <= config["text_config"].items()
    assert all(part.items() <= record[key].items() for key, part in parts.items())
    assert file.items() <= record.items()
    left_out = record.keys() - file.keys() - parts.keys()
    assert {key for key in left_out if record[key] not in (None, [])} <= {"predecessor"}
    assert list(entry.published) == list(catalog.Published.__annotations__)
    assert list(entry.exact) == list(catalog.Exact.__annotations__)


@BY_ENTRY
def test_the_words_are_there(entry: catalog.Entry) -> None:
    assert re.fullmatch(r"[a-z0-9]+([.-][a-z0-9]+)*", entry.id)
    assert entry.repository is None or re.fullmatch(r"[\w.-]+/[\w.-]+", entry.repository)
    assert entry.released is None or re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", entry.released)
    assert entry.license is None or entry.license
    assert re.fullmatch(r"[\d.]+[MBT]", entry.published["total"])
    assert all((entry.name, entry.family, entry.published["source"], entry.sources, *entry.sources))


@BY_ENTRY
def test_the_predecessor_is_known_and_not_younger(entry: catalog.Entry) -> None:
    lineage = [entry]
    while lineage[-1].predecessor is not None:
        lineage.append(catalog.entry(lineage[-1].predecessor))
        if lineage[-1].released and lineage[-2].released:
            assert lineage[-1].released <= lineage[-2].released
        assert len(lineage) <= len(ENTRIES), "a circle"


@BY_ENTRY
def test_unconfirmed_keys_are_in_the_config_and_explained(entry: catalog.Entry) -> None:
    for path in entry.unconfirmed_keys:
        value(text_config(entry), path)
    assert entry.unconfirmed or not entry.unconfirmed_keys


@BY_ENTRY
def test_the_published_total_is_the_recorded_one_rounded(entry: catalog.Entry) -> None:
    number, unit = float(entry.published["total"][:-1]), {"M": 1e6, "B": 1e9, "T": 1e12}[entry.published["total"][-1]]
    if entry.family == "Gemma 3n":
        assert entry.exact["total"] < number * unit  # the published size has the vision and audio towers in it
        return
    if entry.published["source"] == "model name":  # names count up to their number or round down: 7.6B is called 7B
        # and some are less exact: Devstral 2 123B has 125.0 billion, Nemotron 3.5 Lightning 30B 31.6
        assert number - 0.5 < entry.exact["total"] / unit < max(number + 1, 1.06 * number), entry.id
        return
    # OLMo and Llama 3.2 round far: 13.7B is called 13B, and 1.24B and 1.48B are called 1B.
    assert (
        entry.exact["total"] == pytest.approx(number * unit, rel=0.06)
        or abs(entry.exact["total"] / unit - number) < 0.5
    )


@BY_ENTRY
def test_active_parameters_are_recorded_for_mixtures_only(entry: catalog.Entry) -> None:
    exact = entry.exact
    c = text_config(entry)
    mixture = any(c.get(key) for key in ("num_experts_per_tok", "num_experts_per_token", "top_k_experts"))
    assert (entry.published["active"] is not None) == mixture
    active = (exact["active_without_embeddings"], exact["active_without_input_embedding"], exact["active"])
    if not mixture:
        assert active == (None, None, None)
        return
    if exact["scope"].startswith("analytic"):
        return
    table = c["vocab_size"] * c["hidden_size"]
    assert exact["active"] is not None
    assert exact["active"] < exact["total"]
    inputs = 0 if c["tie_word_embeddings"] else table  # a tied table counts once, as the head
    assert active == (exact["active"] - inputs - table, exact["active"] - inputs, exact["active"])


@BY_ENTRY
def test_router_bias_is_one_for_each_expert_of_each_sparse_layer(entry: catalog.Entry) -> None:
    c = text_config(entry)
    if "topk_method" not in c or "first_k_dense_replace" not in c:
        pytest.skip("other families say it in other keys; their totals are tested with the cost")
    biased = c["topk_method"] == "noaux_tc"
    expected = (c["num_hidden_layers"] - c["first_k_dense_replace"]) * c["n_routed_experts"] if biased else 0
    assert entry.exact["router_bias"] == expected


def hybrid(c: dict[str, Any]) -> bool:
    return any(key.startswith(("linear_", "mamba_", "conv_")) for key in c)


@BY_ENTRY
def test_recorded_state_agrees_with_itself_and_with_the_layers(entry: catalog.Entry) -> None:
    exact, c = entry.exact, text_config(entry)
    if entry.family in ("Gemma 3n", "Gemma 4", "MiMo", "Llama 4", "Switch Transformer", "GLaM") or hybrid(c):
        pytest.skip("its layers do not all keep alike; the state is tested with the cost")
    layers = c.get("num_hidden_layers") or c.get("num_decoder_layers") or c["n_layer"]
    assert exact["state_full_layers"] + exact["state_window_layers"] == layers
    if c.get("layer_types"):
        assert len(c["layer_types"]) == layers
        assert c["layer_types"].count("full_attention") == exact["state_full_layers"]
    per_layer, rest = divmod(exact["state_elements_per_token"], layers)
    assert rest == 0
    if exact["state_window"] is None:
        assert (exact["state_window_layers"], exact["state_elements_at_131072"]) == (0, None)
        return
    assert exact["state_window"] == c["sliding_window"]
    tokens = exact["state_full_layers"] * 131_072 + exact["state_window_layers"] * min(exact["state_window"], 131_072)
    assert exact["state_elements_at_131072"] == per_layer * tokens


def kinds(node: object) -> object:
    """A tree without its sizes: numbers are all alike, and so are layers that differ in numbers only."""
    if isinstance(node, Spec):
        inner = {f.name: kinds(getattr(node, f.name)) for f in fields(node) if f.name not in ("name", "tied")}
        return type(node), frozenset(inner.items())
    if isinstance(node, tuple):
        return frozenset(map(kinds, node))
    return "number" if type(node) in (int, float) else node


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.like], ids=lambda entry: entry.id)
def test_a_model_that_is_like_another_differs_in_sizes_only(entry: catalog.Entry) -> None:
    """What `like` promises, and why drawings and plans of these are not tested one by one."""
    origin = catalog.entry(entry.like)
    ours, theirs = (read(each.config, each.id, catalog.implicit) for each in (entry, origin))
    assert origin.like != entry.id
    assert kinds(ours) == kinds(theirs)


def test_only_a_total_that_hangs_on_unconfirmed_values_is_untested() -> None:
    untested = {e.id for e in ENTRIES if not e.exact["tested"]}
    sizes = {
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_key_value_heads",
        "num_dense_layers",
        "vocab_size",
    }
    sizes |= {"kv_lora_rank", "q_lora_rank"}
    expected = {e.id for e in ENTRIES if e.exact["scope"].startswith("analytic") or sizes & set(e.unconfirmed_keys)}
    assert untested == expected


def test_the_order_is_by_family_then_release_then_size() -> None:
    families = [e.family for e in ENTRIES]
    assert sorted(families, key=str.casefold) == families
    assert [e.id for e in ENTRIES if e.family == "DeepSeek"] == [
        "deepseek-v2-lite",
        "deepseek-v2",
        "deepseek-v3",
        "deepseek-r1",
        "deepseek-v3.2",
    ]
    assert [e.id for e in ENTRIES if e.family == "Gemma 3"] == [
        "gemma-3-1b",
        "gemma-3-4b",
        "gemma-3-12b",
        "gemma-3-27b",
        "gemma-3-270m",
    ]
    assert catalog.names() == tuple(e.id for e in ENTRIES)


def test_changing_a_config_changes_only_the_copy() -> None:
    config = catalog.entry("llama-3.1-405b").config
    config["rope_scaling"]["factor"] = 1.0
    config["hidden_size"] = 1
    assert catalog.entry("llama-3.1-405b").config["rope_scaling"]["factor"] == 8.0
    assert catalog.entry("llama-3.1-405b").config["hidden_size"] == 16_384
    catalog.implicit("qwen3_moe")["mlp_only_layers"].append(0)
    assert catalog.implicit("qwen3_moe")["mlp_only_layers"] == []


@pytest.mark.parametrize("name", ["llama3-8b", "llama-3-8"])
def test_an_unknown_name_suggests_the_nearest(name: str) -> None:
    with pytest.raises(InputError) as error:
        catalog.entry(name)
    message = str(error.value)
    assert message.startswith(f"no model named '{name}' in the catalog; did you mean llama-3-8b")
    assert message.endswith("? `vitruvius catalog` lists all")
    assert "\n" not in message


@pytest.mark.parametrize("name", ["", "../implicit/llama", "zzzzzz", "\n"])
def test_an_unknown_name_near_nothing_is_one_line_too(name: str) -> None:
    with pytest.raises(InputError, match=r"^no model named .* in the catalog; `vitruvius catalog` lists all$") as error:
        catalog.entry(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_model_type_says_what_it_means_where_a_file_is_silent(model_type: str) -> None:
    defaults = catalog.implicit(model_type)
    assert type(defaults.get("tie_word_embeddings")) is bool
    sizes = {
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "vocab_size",
        "n_embd",
        "d_model",
    }
    if model_type != "gemma3_text":  # of which official files do leave sizes out; elsewhere a missing size is an error
        assert not {key for key in sizes if defaults.get(key) is not None}


def test_nothing_is_implied_for_an_unknown_type() -> None:
    assert catalog.implicit("mamba3") == catalog.implicit("../models/gpt2") == {}


def test_the_wrappers_say_whether_head_and_embedding_are_one() -> None:
    assert catalog.implicit("gemma3") == {"tie_word_embeddings": True}
    assert catalog.implicit("mistral3") == {"tie_word_embeddings": False}


# What the checkpoint's own file holds, of the keys that concern the architecture; the rest is implied.
OFFICIAL: dict[str, dict[str, Any]] = {
    "gemma-3-4b": {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    },
    "gemma-3-27b": {
        "head_dim": 128,
        "hidden_size": 5376,
        "intermediate_size": 21504,
        "model_type": "gemma3_text",
        "num_attention_heads": 32,
        "num_hidden_layers": 62,
        "num_key_value_heads": 16,
        "query_pre_attn_scalar": 168,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    },
    "llama-2-7b": {
        "hidden_act": "silu",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "max_position_embeddings": 4096,
        "model_type": "llama",
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 32,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "tie_word_embeddings": False,
        "vocab_size": 32000,
    },
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_an_official_file_and_what_it_implies_make_the_entry(name: str) -> None:
    file, expected = OFFICIAL[name], catalog.entry(name).config
    completed = {**catalog.implicit(file["model_type"]), **file}
    if completed["head_dim"] is None:
        completed["head_dim"] = completed["hidden_size"] // completed["num_attention_heads"]
    if period := completed.pop("sliding_window_pattern", None):
        layers = range(1, file["num_hidden_layers"] + 1)
        completed["layer_types"] = ["sliding_attention" if i % period else "full_attention" for i in layers]
    assert completed == expected


def test_the_weights_are_where_the_entry_says() -> None:
    weights = catalog.entry("smollm2-135m-instruct").weights
    assert weights is not None
    assert weights["distribution"] in weights["install"]
    assert [e.id for e in ENTRIES if e.weights] == ["smollm2-135m-instruct"]
    try:
        files = metadata.files(weights["distribution"])
    except metadata.PackageNotFoundError:
        pytest.skip(f"{weights['distribution']} is not installed")
    (file,) = [file for file in files or () if str(file) == weights["file"]]
    with open(file.locate(), "rb") as stream:
        assert stream.read(4) == b"GGUF"


def test_listing_everything_imports_no_torch() -> None:
    code = "import sys; from vitruvius import catalog; catalog.entries(); print({'torch', 'numpy'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"


# ------------------------------------------------------------------ when, under which licence, from whom


@BY_ENTRY
def test_what_is_known_of_a_release_has_its_source_and_nothing_else_has(entry: catalog.Entry) -> None:
    assert (entry.released is None) == (entry.released_source is None)
    assert (entry.license is None) == (entry.license_source is None)
    assert entry.released is None or re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", entry.released)


@BY_ENTRY
def test_a_model_derives_from_an_earlier_one_that_is_known(entry: catalog.Entry) -> None:
    if entry.derives is None:
        return
    parent = catalog.entry(entry.derives["parent"])
    assert entry.derives["takes"] in ("weights", "design")
    assert entry.derives["source"]
    assert parent.released is not None
    assert entry.released is not None
    assert parent.released <= entry.released


def test_the_lineage_as_its_sources_tell_it() -> None:
    """Spot checks against what the sources say, so that a slip in the data shows."""
    derived = {e.id: (e.derives["parent"], e.derives["takes"]) for e in ENTRIES if e.derives}
    assert derived["deepseek-r1"] == ("deepseek-v3", "weights")
    assert derived["kimi-k2"] == derived["mistral-large-3-675b"] == ("deepseek-v3", "design")
    assert derived["ministral-3-14b"] == ("mistral-small-3.1-24b", "weights")
    assert derived["gemma-3n-e2b"] == ("gemma-3n-e4b", "weights")
    assert "nemotron-3.5-lightning-30b-a3b" not in derived
    lightning = catalog.entry("nemotron-3.5-lightning-30b-a3b")
    assert (lightning.released, lightning.license) == (None, None)
    assert catalog.entry("minimax-m2").license == "Modified MIT"


def test_weights_are_taken_over_with_the_design() -> None:
    """What goes on from another's weights, or is a slice of them, keeps its layers; what changes is named here."""
    changeable = {"keys and values", "RoPE scaling", "temperature", "head's matrix"}
    for entry in ENTRIES:
        if entry.derives and entry.derives["takes"] == "weights":
            nouns, _ = changes(architecture(entry.derives["parent"]), architecture(entry.id))
            assert {change.what for change in nouns} <= changeable, entry.id
