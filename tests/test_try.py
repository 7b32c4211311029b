"""Trying a model in the explorer: probabilities, attention and routing are the model's own, one request at a time."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient

import vitruvius as vt
from vitruvius.inference.torch_runner import TorchRunner
from vitruvius.nn import Decoder
from vitruvius.server.explorer import local, try_
from vitruvius.server.explorer.application import application
from vitruvius.server.explorer.attention_maps import attention_weights, heads, router_choice, routers
from vitruvius.server.explorer.inside import logit_lens, without
from vitruvius.server.explorer.local import Loaded, LocalModels

TEXT = "abcdefghij"


def config(name: str, **sizes: Any) -> dict[str, Any]:
    return {**vt.catalog.entry(name).config, **sizes}


def gpt2() -> Decoder:
    return vt.build(config("gpt2", n_embd=32, n_head=4, n_layer=2, vocab_size=64, n_positions=64), seed=1)


def deepseek() -> Decoder:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8}
    sizes |= {"qk_rope_head_dim": 8, "v_head_dim": 8, "n_routed_experts": 8, "num_experts_per_tok": 3, "n_group": 4}
    sizes |= {"topk_group": 2, "moe_intermediate_size": 16, "first_k_dense_replace": 1, "vocab_size": 64}
    return vt.build(config("deepseek-v3", **sizes), seed=2)


def gemma() -> Decoder:
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 64}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 3}
    return vt.build(config("gemma-3-27b", **sizes, layer_types=["sliding_attention", "full_attention"]), seed=3)


class Letters:
    """A tokenizer with a token for each character."""

    eos_ids = (63,)

    def encode(self, text: str) -> list[int]:
        return [ord(character) % 60 for character in text]

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(f"<{i}>" for i in ids)

    def chat(self, messages: list[dict[str, Any]]) -> list[int]:
        return [1, *self.encode(messages[0]["content"]), 2]

    def stream(self, *, keep: Collection[str] = ()) -> Letters:
        return self

    def push(self, token: int) -> str:
        return f"<{token}>"

    def finish(self) -> str:
        return ""


# ------------------------------------------------------------------ inside a forward pass


@torch.inference_mode()
def test_attention_is_the_softmax_of_queries_and_keys() -> None:
    model, ids = gpt2(), Letters().encode(TEXT)
    module = model.get_submodule("layers.1.mixer.body")
    seen: list[torch.Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    weights = attention_weights(model, ids, "layers.1.mixer.body", 2)
    hook.remove()
    q, k = (getattr(owner, name)(seen[0])[0, :, 16:24] for owner, name in ((module, "q"), (module.kv, "k")))
    scores = (q @ k.T / 8**0.5).masked_fill(~torch.ones(len(ids), len(ids)).tril().bool(), -torch.inf)
    torch.testing.assert_close(weights, scores.softmax(-1))


@pytest.mark.parametrize("make", [gpt2, deepseek, gemma])
def test_every_attention_can_be_looked_at(make: Any) -> None:
    model, ids = make(), Letters().encode(TEXT)
    before = model.hidden(torch.tensor([ids]))
    for path, count in heads(model).items():
        for head in range(count):
            weights = attention_weights(model, ids, path, head)
            assert weights.shape == (len(ids), len(ids))
            torch.testing.assert_close(weights.sum(-1), torch.ones(len(ids)))
            assert not weights.triu(1).any()
    torch.testing.assert_close(model.hidden(torch.tensor([ids])), before)  # no hook is left


def test_a_window_hides_what_is_further_back() -> None:
    model, ids = gemma(), Letters().encode(TEXT)
    assert not attention_weights(model, ids, "layers.0.mixer.body", 0).tril(-3).any()
    assert attention_weights(model, ids, "layers.1.mixer.body", 0).tril(-3).any()


def test_the_routers_choice_is_what_the_experts_get() -> None:
    model, ids = deepseek(), Letters().encode(TEXT)
    assert routers(model) == {f"layers.{i}.mlp.body.router": (8, 3) for i in (1, 2)}
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    hook = model.get_submodule("layers.2.mlp.body.router").register_forward_hook(lambda *a: seen.append(a[2]))
    experts, weights = router_choice(model, ids, "layers.2.mlp.body.router")
    hook.remove()
    assert (weights.diff(dim=-1) <= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.full((len(ids),), 2.5))  # normalised, then scaled
    assert torch.equal(experts.sort(-1).values, seen[0][1].sort(-1).values)


@pytest.mark.parametrize(("path", "head"), [("layers.1.mixer.body", 4), ("layers.9.mixer.body", 0), ("", 0)])
def test_what_is_not_there_is_named(path: str, head: int) -> None:
    with pytest.raises(vt.InputError, match="there is no head"):
        attention_weights(gpt2(), [1, 2], path, head)
    with pytest.raises(vt.InputError, match="there is no router"):
        router_choice(gpt2(), [1, 2], path)


# ------------------------------------------------------------------ the API


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    made = {"tiny": gpt2, "mixture": deepseek}
    loaded = {name: Loaded(name, Letters(), TorchRunner(make()), make) for name, make in made.items()}  # type: ignore[arg-type]
    monkeypatch.setattr(LocalModels, "sources", {name: name for name in loaded})
    monkeypatch.setattr(LocalModels, "load", lambda self, name: loaded[name])
    with TestClient(application(), base_url="http://127.0.0.1") as opened:
        yield opened


def events(body: str) -> list[tuple[str, Any]]:
    lines = [block.split("\n") for block in body.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(told.removeprefix("data: "))) for name, told in lines]


@torch.inference_mode()
def test_text_comes_with_the_models_own_probabilities(client: TestClient) -> None:
    answer = client.post("/api/try/generate", json={"model": "tiny", "prompt": TEXT, "max_new_tokens": 5})
    assert answer.headers["content-type"].startswith("text/event-stream")
    *tokens, (last, done) = events(answer.text)
    model, ids = gpt2(), Letters().encode(TEXT)
    expected = vt.generate(model, [ids], max_new_tokens=5)[0].tolist()
    assert ([told["id"] for _, told in tokens], last, done["tokens"]) == (expected, "done", 5)
    for i, (_, told) in enumerate(tokens):
        probabilities = model(torch.tensor([ids + expected[:i]]))[0, -1].softmax(-1)
        assert told["probability"] == pytest.approx(float(probabilities[told["id"]]), abs=1e-5)
        assert [each["id"] for each in told["top"]] == probabilities.topk(5).indices.tolist()


def test_the_inside_is_told_with_its_tokens(client: TestClient) -> None:
    asked = {"model": "mixture", "text": "abc"}
    places = client.post("/api/try/look", json=asked).json()
    assert [token["text"] for token in places["tokens"]] == ["<37>", "<38>", "<39>"]
    assert places["routers"][0] == {"path": "layers.1.mlp.body.router", "experts": 8, "active": 3}
    path = places["attentions"][1]["path"]
    weights = client.post("/api/try/attention", json={**asked, "path": path, "head": 3}).json()["weights"]
    expected = attention_weights(deepseek(), [37, 38, 39], path, 3)
    torch.testing.assert_close(torch.tensor(weights), expected, atol=1e-4, rtol=0)
    chosen = client.post("/api/try/router", json={**asked, "path": "layers.2.mlp.body.router"}).json()
    assert chosen["experts"] == router_choice(deepseek(), [37, 38, 39], "layers.2.mlp.body.router")[0].tolist()


@pytest.mark.parametrize(
    ("path", "asked", "said"),
    [
        ("generate", {"prompt": ""}, "prompt must be"),
        ("generate", {"prompt": "a" * 9000}, "prompt must be"),
        ("generate", {"prompt": "a" * 100}, "the prompt has 100 tokens, the model's context is 64"),
        ("generate", {"prompt": "a", "max_new_tokens": 513}, "max_new_tokens must be"),
        ("generate", {"prompt": "a", "max_new_tokens": True}, "max_new_tokens must be"),
        ("generate", {"prompt": "a", "temperature": "hot"}, "temperature must be"),
        ("look", {"text": "a" * 300}, "the text has 300 tokens"),
        ("attention", {"text": "a", "path": "../../etc"}, "there is no head"),
        ("attention", {"text": "a", "path": "layers.0.mixer.body", "head": -1}, "head must be"),
    ],
)
def test_what_cannot_be_done_is_said_before_it_begins(client: TestClient, path: str, asked: Any, said: str) -> None:
    answer = client.post(f"/api/try/{path}", json={"model": "tiny", **asked})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith(said)
    free = client.post("/api/try/generate", json={"model": "tiny", "prompt": "a", "max_new_tokens": 1})
    assert free.status_code == 200  # the seat was left


def test_requests_are_bounded(client: TestClient) -> None:
    assert client.post("/api/try/look", content=b"x" * 70_000).status_code == 413
    assert client.post("/api/try/look", content=b"[" * 60_000).status_code == 422
    assert client.post("/api/try/look", content=b"[]").status_code == 422


def test_a_model_works_for_one_at_a_time(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = try_._tokens
    answers = []

    def meanwhile(*args: Any) -> Iterator[dict[str, Any]]:
        for told in tokens(*args):
            answers.append(client.post("/api/try/look", json={"model": "tiny", "text": "a"}).status_code)
            yield told

    monkeypatch.setattr(try_, "_tokens", meanwhile)
    assert (
        client.post("/api/try/generate", json={"model": "tiny", "prompt": "a", "max_new_tokens": 2}).status_code == 200
    )
    assert answers == [409, 409]
    assert client.post("/api/try/look", json={"model": "tiny", "text": "a"}).status_code == 200


def test_only_models_that_are_offered_can_be_named() -> None:
    models = LocalModels()
    models.__dict__["sources"] = {"tiny": "tiny"}
    for name in ("/etc/passwd", "../tiny", "org/model"):
        with pytest.raises(vt.InputError, match="cannot be tried here; there are tiny"):
            models.load(name)


def test_keys_that_may_be_left_out_hold_for_the_models_that_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(local, "architecture", lambda source, ignore: asked.append((source, ignore)))
    monkeypatch.setattr(local, "at_hand", list)
    monkeypatch.setattr(local, "_load", lambda *found: asked.append(found) or Loaded(found[0], None, None, None))  # type: ignore[arg-type]
    models = LocalModels(("org/tuned",), ("private_key",))
    assert models.load("org/tuned").name == "org/tuned"
    assert asked == [("org/tuned", ("private_key",)), ("org/tuned", "org/tuned", ("private_key",))]


def test_without_torch_the_native_engine_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "find_spec", lambda name: None)
    asked = {"model": "smollm2-135m-instruct", "prompt": "The capital of France is", "max_new_tokens": 4}
    with TestClient(application(), base_url="http://127.0.0.1") as client:
        assert client.get("/api/try").json()["available"]
        tokens = [
            told["text"] for name, told in events(client.post("/api/try/generate", json=asked).text) if name == "token"
        ]
        assert "Paris" in "".join(tokens)
        answer = client.post("/api/try/look", json={"model": asked["model"], "text": "abc"})
        assert answer.status_code == 422
        assert answer.json()["error"].startswith("looking inside a model needs PyTorch")
    monkeypatch.setattr(local, "library", lambda: None)
    assert "pip install 'vitruvius[torch]'" in (LocalModels().unavailable() or "")


# ------------------------------------------------------------------ what layers believe, and what parts do


@torch.inference_mode()
def test_the_lens_reads_the_stream_as_the_head_does() -> None:
    model, ids = deepseek(), Letters().encode(TEXT)
    best, sure = logit_lens(model, ids)
    assert best.shape == sure.shape == (4, len(ids))
    expected = model(torch.tensor([ids]))[0].softmax(-1).max(-1)
    assert best[-1].tolist() == expected.indices.tolist()
    torch.testing.assert_close(sure[-1], expected.values)
    first = model.read_out(model.final_norm(model.embed(torch.tensor([ids]))))[0].softmax(-1).max(-1)
    torch.testing.assert_close(sure[0], first.values)


@torch.inference_mode()
def test_without_a_head_its_part_of_the_output_projection_is_nothing() -> None:
    model, ids, path = gpt2(), Letters().encode(TEXT), "layers.1.mixer.body"
    before, after = without(model, ids, path, 2)
    torch.testing.assert_close(before, model(torch.tensor([ids]))[0, -1].softmax(-1))
    weight = model.get_submodule(f"{path}.o").weight
    weight.data[:, 16:24] = 0  # head 2 of 4 of 8 channels
    torch.testing.assert_close(after, model(torch.tensor([ids]))[0, -1].softmax(-1))
    assert not torch.allclose(before, after)


@torch.inference_mode()
def test_without_a_layer_the_model_is_that_much_shorter() -> None:
    model, ids = gpt2(), Letters().encode(TEXT)
    _, after = without(model, ids, "layers.0", None)
    x = model.embed(torch.tensor([ids])) + model.positions(torch.arange(len(ids)))
    x = model.layers[1](x, _call(model, ids))[0]
    torch.testing.assert_close(after, model.read_out(model.final_norm(x))[0, -1].softmax(-1))


def _call(model: Decoder, ids: list[int]) -> Any:
    from vitruvius.nn.call import whole_call

    return whole_call(model.all_needs, torch.tensor([ids]), model.dtype)


@torch.inference_mode()
def test_without_an_expert_only_tokens_that_chose_it_change() -> None:
    model, ids, path = deepseek(), Letters().encode(TEXT), "layers.2.mlp.body.router"
    chosen = router_choice(model, ids, path)[0][-1].tolist()
    other = next(i for i in range(8) if i not in chosen)
    before, after = without(model, ids, path, other)
    torch.testing.assert_close(before, after)
    before, after = without(model, ids, path, chosen[0])
    assert not torch.allclose(before, after)


def test_all_heads_and_what_parts_do_are_answered(client: TestClient) -> None:
    asked = {"model": "tiny", "text": "abc", "path": "layers.1.mixer.body"}
    found = client.post("/api/try/heads", json=asked).json()["heads"]
    assert [[len(row) for row in head] for head in found] == [[1, 2, 3]] * 4
    expected = attention_weights(gpt2(), [37, 38, 39], "layers.1.mixer.body", 3)
    assert found[3][2] == pytest.approx(expected[2].tolist(), abs=1e-3)
    lens = client.post("/api/try/lens", json=asked).json()["layers"]
    assert [len(row) for row in lens] == [3, 3, 3]
    told = client.post("/api/try/without", json={**asked, "number": 0}).json()["next"]
    assert len(told) >= 5
    assert any(each["before"] != each["after"] for each in told)
    for what, more, words in (
        ("heads", {"text": "a" * 65}, "all heads at once are shown of at most 64"),
        ("heads", {"path": "layers.9"}, "there is no attention at 'layers.9'"),
        ("without", {"path": "layers.9"}, "there is no part"),
        ("without", {"number": 4}, "there is no part 4 at"),
        ("without", {"number": "x"}, "number must be a whole number"),
    ):
        answer = client.post(f"/api/try/{what}", json={**asked, **more})
        assert answer.status_code == 422, what
        assert words in answer.json()["error"]
