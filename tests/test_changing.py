"""Changing an architecture: what may be changed, what follows, and that the lines of Python make the same."""

from __future__ import annotations

import json
from functools import cache

import pytest

import vitruvius as vt
from vitruvius import catalog
from vitruvius import spec as s
from vitruvius.errors import InputError
from vitruvius.views.changing import changed, knobs


@cache
def arch(name: str) -> s.Decoder:
    return vt.architecture(name)


def test_all_that_the_explorer_names_may_be_changed() -> None:
    keys = {placed.key for placed in knobs(arch("qwen3-30b-a3b"))}
    body = {"window", "positions", "kv_heads", "qk_norm", "kind"}
    experts = {"active", "experts", "dim"}
    wanted = {"layers", "width", "mixer.norm", "mlp.norm"}
    assert keys == wanted | {f"mixer.body.{k}" for k in body} | {f"mlp.body.{k}" for k in experts}


@pytest.mark.parametrize(
    ("name", "changes", "patterns"),
    [
        ("llama-3-8b", {"mixer.body.kv_heads": "1"}, {"layers.*.mixer.body.kv.heads": 1}),
        ("llama-3-8b", {"mixer.body.positions": "none"}, {"layers.*.mixer.body.positions": None}),
        (
            "gemma-3-27b",
            {"5.mixer.body.window": "512"},
            {"layers.5,11,17,23,29,35,41,47,53,59.mixer.body.mask": s.Window(size=512)},
        ),
        ("gpt-oss-20b", {"mlp.body.active": "8"}, {"layers.*.mlp.body.router.active": 8}),
        ("llama-3-8b", {"mlp.body.dim": "8,192", "width": "2048"}, {"layers.*.mlp.body.dim": 8192, "width": 2048}),
        (
            "falcon-h1-0.5b",
            {"mixer.body.attention.body.kv_heads": "4"},
            {"layers.*.mixer.body.attention.body.kv.heads": 4},
        ),
    ],
)
def test_changes_are_the_edits_of_replace(name: str, changes: dict[str, str], patterns: dict[str, object]) -> None:
    expected = arch(name)
    for pattern, new in patterns.items():
        expected = vt.replace(expected, pattern, new)
    assert changed(arch(name), changes).decoder == expected
    assert expected != arch(name)


def test_norms_move() -> None:
    after = changed(arch("llama-3-8b"), {"mixer.norm": "after", "mlp.norm": "both"}).decoder
    assert {(b.name, bool(b.pre), bool(b.post)) for layer in after.layers for b in layer.branches} == {
        ("mixer", False, True),
        ("mlp", True, True),
    }


def test_latent_attention_keeps_what_else_was_changed_and_each_layers_window() -> None:
    after = changed(arch("gemma-3-1b"), {"mixer.body.kind": "latent", "mixer.body.positions": "none"}).decoder
    bodies = [layer.branches[0].body for layer in after.layers]
    assert all(isinstance(body, s.LatentAttention) and body.positions is None for body in bodies)
    assert [body.mask for body in bodies] == [layer.branches[0].body.mask for layer in arch("gemma-3-1b").layers]
    assert vt.cost(after).state.bytes_per_token < vt.cost(arch("llama-3-8b")).state.bytes_per_token


@pytest.mark.parametrize("layers", ["1", "7", "40"])
def test_depth(layers: str) -> None:
    before, after = arch("llama-3-8b"), changed(arch("llama-3-8b"), {"layers": layers}).decoder
    each = vt.cost(before).parameters.total - vt.cost(vt.replace(before, "layers", lambda x: x[:31])).parameters.total
    assert vt.cost(after).parameters.total == vt.cost(before).parameters.total + (int(layers) - 32) * each


@pytest.mark.parametrize("name", ["llama-3-8b", "gemma-3-1b", "deepseek-v3", "gpt-oss-20b", "nemotron-3-nano-30b-a3b"])
def test_the_lines_of_python_make_the_same(name: str) -> None:
    """Every knob turned once."""
    for placed in knobs(arch(name)):
        knob = placed.knob
        others = [key for key in knob.choices or () if key != knob.value]
        text = others[0] if others else str(min(knob.most, max(knob.least, int(knob.value) // 2 or 3)))
        made = changed(arch(name), {placed.key: text})
        names = {"vt": vt, "arch": arch(name)}
        exec("\n".join((*made.imports, *made.code)), names)
        assert names["arch"] == made.decoder
        assert made.decoder != arch(name), f"{placed.key} changes nothing"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layers": "-3"}, "layers is '-3', not a whole number from 1 to 256"),
        ({"layers": "many"}, "layers is 'many'"),
        ({"width": ""}, "width is ''"),
        ({"width": "9" * 30}, "not a whole number"),
        ({"mixer.body.kv_heads": "7"}, "key/value heads is '7', not one of 1, 2, 4, 8, 16, 32"),
        ({"nonsense": "1"}, "there is no 'nonsense' to change here; there are layers, width,"),
    ],
)
def test_what_cannot_be_is_answered_in_one_line(changes: dict[str, str], words: str) -> None:
    with pytest.raises(InputError) as raised:
        changed(arch("llama-3-8b"), changes)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_model_of_the_catalog_has_two_knobs_of_one_name() -> None:
    for name in catalog.names():
        keys = [placed.key for placed in knobs(arch(name))]
        assert len(keys) == len(set(keys)), name


# The server


def test_the_server_answers_with_the_page_of_the_result() -> None:
    from starlette.testclient import TestClient

    from vitruvius.server.explorer.application import application

    client = TestClient(application(), base_url="http://localhost")
    asked = {"id": "llama-3.2-1b", "changes": {"mixer.body.kv_heads": "1"}}
    found = client.post("/api/change", content=json.dumps(asked)).json()
    assert found["name"] == "Llama 3.2 1B, changed"
    assert found["attention"] == ["MQA"]
    assert found["state_per_token"] == 16 * 2 * 64 * 2
    assert {"what": "key/value heads", "a": 8, "b": 1} in found["changes"]
    names: dict[str, object] = {}
    exec(found["code"], names)
    assert names["arch"] == vt.replace("llama-3.2-1b", "layers.*.mixer.body.kv.heads", 1)
    for body in (
        "",
        "[]",
        '{"id": "x"}',
        '{"id": "llama-3.2-1b", "changes": {"layers": 3}}',
        '{"id": "no", "changes": {}}',
    ):
        answer = client.post("/api/change", content=body)
        assert answer.status_code == 422, body
        assert "\n" not in answer.json()["error"]
