"""The explorer behind its page: the data are those of the definitions, and hostile requests are refused in one line."""

from __future__ import annotations

import json
import re
import struct
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from vitruvius import architecture, catalog, cost
from vitruvius.checkpoints.matching import plain
from vitruvius.checkpoints.steps import file_shapes
from vitruvius.errors import InputError
from vitruvius.server.explorer import data, upload
from vitruvius.server.explorer.application import application
from vitruvius.server.explorer.export import export
from vitruvius.server.explorer.files import explorer
from vitruvius.server.explorer.forwards import forwards
from vitruvius.server.explorer.guard import POLICY, Guard
from vitruvius.server.explorer.known import known
from vitruvius.spec import Spec, walk
from vitruvius.views import compare
from vitruvius.views.diff import properties
from vitruvius.views.nouns import describe
from vitruvius.views.symbols import symbols, undefined

SVG = "{http://www.w3.org/2000/svg}"
SOME = ("gemma-3-27b", "deepseek-v3", "nemotron-3-nano-30b-a3b", "gemma-3n-e4b", "switch-base-8")
BY_MODEL = pytest.mark.parametrize("name", SOME)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(application(), base_url="http://127.0.0.1:8765", raise_server_exceptions=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def index() -> dict[str, Any]:
    return data.index()


def page(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(data.encoded(data.page(architecture(name), catalog.entry(name))))
    return found


# ------------------------------------------------------------------ the data


def test_every_model_has_a_card_with_the_figures_of_its_definition(index: dict[str, Any]) -> None:
    assert [card["id"] for card in index["architectures"]] == list(catalog.names())
    assert len(data.encoded(index)) < 100_000  # the first thing that a page loads
    for card in index["architectures"]:
        assert sum(times for _, times in card["strip"]["runs"]) == card["layers"]
    for name in SOME:
        card, c = next(card for card in index["architectures"] if card["id"] == name), cost(architecture(name))
        assert (card["parameters"], card["active"]) == (c.parameters.total, c.parameters.active)
        assert (card["state_per_token"], card["state_at_context"]) == (c.state.bytes_per_token, c.state.bytes)


def test_cards_say_what_one_filters_by(index: dict[str, Any]) -> None:
    cards = {card["id"]: card for card in index["architectures"]}
    kinds = {name: cards[name]["kind"] for name in SOME}
    assert kinds == dict(zip(SOME, ("dense", "MoE", "hybrid MoE", "dense", "MoE"), strict=True))
    assert cards["deepseek-v3.2"]["attention"] == ["MLA"]
    assert "sparse indexer" in cards["deepseek-v3.2"]["features"]
    assert cards["qwen3-next-80b-a3b"]["attention"][0] == "Gated DeltaNet"
    assert {"sliding window", "attention sinks"} <= set(cards["gpt-oss-20b"]["features"])
    assert cards["gemma-3-27b"]["strip"]["runs"][:2] == [[0, 5], [1, 1]]
    assert cards["nemotron-3.5-lightning-30b-a3b"]["license"] is None  # unknown stays unknown
    layers_differ = {"local and global", "no positions in some layers"}
    assert not layers_differ & set(cards["switch-base-8"]["features"])  # cross-attention is no layer of its own kind
    assert {"shared keys and values", "local and global", "QK norm"} <= set(cards["gemma-3n-e4b"]["features"])
    assert layers_differ <= set(cards["llama-4-scout"]["features"])
    assert {name for name, card in cards.items() if "output gate" in card["features"]} == {
        name for name in cards if name.startswith(("qwen3-next", "qwen3.5", "qwen3.6", "trinity"))
    }


@BY_MODEL
def test_the_drawing_and_the_parts_share_their_paths(name: str) -> None:
    told = page(name)
    root = ET.fromstring(told["drawing"]["svg"])
    drawn = {g.attrib["data-path"] for g in root.iter(f"{SVG}g") if "data-path" in g.attrib}
    assert set(told["parts"]) <= drawn
    assert drawn - set(told["parts"]) <= {"encoder.context", "layers"}
    assert not list(root.iter(f"{SVG}style"))  # the page's own style sheet paints it: no inline style is allowed there
    assert {kind for part in told["parts"].values() if (kind := part["kind"])} == set(told["kinds"])


@BY_MODEL
def test_the_shares_of_the_outermost_parts_make_a_whole(name: str) -> None:
    told, arch = page(name), architecture(name)
    outer = [
        path for path in told["parts"] if re.fullmatch(r"(encoder\.)?(layers\.\d+|embedding|final_norm)|head", path)
    ]
    elsewhere = {"gemma-3n-e4b": 0.006}.get(name, 0.0)  # its streams' ends, which no part of the drawing shows
    assert sum(told["parts"][path]["share"] for path in outer) == pytest.approx(1.0 - elsewhere, abs=0.004)
    assert sum(told["parts"][path]["flops_share"] for path in outer) == pytest.approx(1.0 - elsewhere, abs=0.004)
    first = next(node for node in walk(arch, arch.width) if node.path == "layers.0")
    own = sum(
        weight.size for node in walk(first.spec, first.width) for weight in node.spec.weights(node.width).values()
    )
    if name == "gemma-3-27b":  # no copies, so the sum over the layer's weights is all
        assert told["parts"]["layers.0"]["parameters"] == own


def test_a_part_has_its_equation_shapes_and_paper() -> None:
    told = page("deepseek-v3")
    experts, latent = told["parts"]["layers.3.mlp.body.experts"], told["parts"]["layers.3.mixer.body"]
    assert experts["tensors"][0] == {
        "name": "gate.weight",
        "shape": [256, 2048, 7168],
        "axes": "experts × hidden × width",
    }
    assert experts["parameters"] == 256 * 3 * 2048 * 7168
    assert (experts["layers"], latent["kind"]) == (58, "LatentAttention")
    assert told["kinds"]["LatentAttention"]["papers"] == ["2405.04434"]
    assert told["parts"]["layers.3.mlp"]["equation"] == "x + experts(RMSNorm(x))"
    assert told["parts"]["layers.3.mlp.body"]["equation"].endswith("+ shared(x)")
    assert "shared(x)" not in page("gpt-oss-20b")["parts"]["layers.0.mlp.body"]["equation"]
    assert told["parts"]["head"]["equation"] == "x Wᵀ"
    assert told["parts"]["mtp.0"]["share"] is None  # it stands apart


@BY_MODEL
def test_the_strip_tells_every_layer_once(name: str) -> None:
    told = page(name)
    strip = told["layers_in_order"]
    order = [number for number, times in strip["runs"] for _ in range(times)]
    assert len(order) == len(architecture(name).layers)
    assert all(index in strip["kinds"][number]["layers"] for index, number in enumerate(order))
    assert all(kind["path"] in told["parts"] for kind in strip["kinds"][:6])


@pytest.mark.parametrize(("a", "b"), [("gemma-3-27b", "mistral-small-3.1-24b"), ("deepseek-v3", "kimi-k2")])
def test_what_is_alike_in_two_descriptions_is_no_change(a: str, b: str) -> None:
    """The page compares descriptions by itself; it must find what `compare` finds."""
    mine, theirs = ({(r.label, r.role): r.value for r in properties(architecture(n))} for n in (a, b))
    differing = {
        label for label, role in mine.keys() | theirs.keys() if mine.get((label, role)) != theirs.get((label, role))
    }
    told = compare(architecture(a), architecture(b))
    for change in (*told.nouns, *told.numbers):
        assert any(change.what.endswith(label) for label in differing), change.what


def test_the_source_is_the_definition() -> None:
    told = page("gemma-3-27b")
    assert told["source"]["module"] == "vitruvius.architectures.gemma3"
    assert "FAMILY = Family(" in told["source"]["code"]
    assert told["config"] == catalog.entry("gemma-3-27b").config


def test_an_edge_of_the_lineage_is_the_difference() -> None:
    edges = {(edge["from"], edge["to"]): edge for edge in data.lineage()["edges"]}
    kimi = edges["deepseek-v3", "kimi-k2"]
    told = compare(architecture("deepseek-v3"), architecture("kimi-k2"))
    assert [change["what"] for change in kimi["numbers"]] == [change.what for change in told.numbers]
    assert kimi["relation"] == "design"
    assert edges["deepseek-v3", "deepseek-r1"]["same"]
    assert edges["gemma-3-27b", "gemma-3-12b"]["relation"] == "compared"


def test_thumbnails_are_small_and_safe() -> None:
    sizes = {}
    for name in catalog.names():
        body = data.files()[f"thumbs/{name}.svg"]()
        root = ET.fromstring(body)
        assert {node.tag.removeprefix(SVG) for node in root.iter()} == {"svg", "style", "path"}
        sizes[name] = len(body)
    assert sum(sizes.values()) < 4_500 * len(sizes)
    assert max(sizes.values()) < 12_000


# ------------------------------------------------------------------ the server


def test_what_is_served_is_what_is_made(client: TestClient) -> None:
    answer = client.get("/data/thumbs/gpt2.svg")
    assert answer.content == data.files()["thumbs/gpt2.svg"]()
    assert answer.headers["content-type"] == "image/svg+xml"
    again = client.get("/data/thumbs/gpt2.svg", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    index = client.get("/data/index.json").json()
    assert (index["served"], index["api"]) == (True, "api/")


@pytest.mark.parametrize(
    "path",
    [
        "/data/../guard.py",
        "/%2e%2e/guard.py",
        "/data/%2e%2e%2fguard.py",
        "//etc/passwd",
        "/guard.py",
        "/data/",
        "/site/",
        "/.git",
    ],
)
def test_nothing_but_its_own_files_is_served(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert set(answer.json()) == {"error"}


def test_every_answer_carries_the_policy(client: TestClient) -> None:
    for answer in (
        client.get("/data/drawing.css"),
        client.get("/nothing"),
        client.post("/api/architecture", content=b"x"),
    ):
        assert answer.headers["content-security-policy"] == f"{POLICY}; frame-ancestors 'none'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers
    assert "unsafe" not in POLICY
    assert "sandbox" in client.get("/data/thumbs/gpt2.svg").headers["content-security-policy"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8765", 200),
        ("localhost", 200),
        ("[::1]:8765", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example:8765", 421),
        ("localhost.evil.example", 421),
        ("192.168.1.5:8765", 421),
        ("", 421),
    ],
)
def test_a_name_that_was_pointed_here_is_not_answered(client: TestClient, host: str, status: int) -> None:
    assert client.get("/data/drawing.css", headers={"host": host}).status_code == status


def test_a_server_that_is_open_answers_for_addresses_but_not_for_foreign_names() -> None:
    guard = Guard(application().app, "0.0.0.0")
    assert guard.hosts.trusted("192.168.1.5:8765")
    assert guard.hosts.trusted("localhost:8765")
    assert not guard.hosts.trusted("evil.example:8765")


def test_another_page_may_not_post(client: TestClient) -> None:
    config = json.dumps(catalog.entry("gpt2").config)
    refused = client.post("/api/architecture", content=config, headers={"origin": "http://evil.example"})
    assert (refused.status_code, set(refused.json())) == (403, {"error"})
    own = client.post("/api/architecture", content=config, headers={"origin": "http://127.0.0.1:8765"})
    assert own.status_code == 200


# ------------------------------------------------------------------ bring your own


def post(client: TestClient, body: bytes | str, name: str = "config.json", **query: Any) -> Any:
    return client.post("/api/architecture", params={"name": name, **query}, content=body)


def test_a_dropped_config_gives_the_page_of_the_catalog(client: TestClient) -> None:
    answer = post(client, json.dumps(catalog.entry("gemma-3-27b").config), "gemma-3-27b.json").json()
    expected = page("gemma-3-27b")
    for key in (
        "parameters",
        "state_per_token",
        "parts",
        "aspects",
        "layers_in_order",
        "pieces",
        "cost",
        "drawing",
        "source",
    ):
        assert answer[key] == expected[key], key
    assert (answer["id"], answer["origins"], answer["undetermined"]) == (None, None, [])


def test_unknown_keys_are_named_and_ignored_only_when_asked(client: TestClient) -> None:
    config = json.dumps({**catalog.entry("gpt2").config, "secret_sauce": 1, "more": 2})
    refused = post(client, config)
    assert refused.status_code == 422
    assert refused.json()["unknown"] == ["more", "secret_sauce"]
    shown = post(client, config, ignore="more,secret_sauce")
    assert (shown.status_code, shown.json()["ignored"]) == (200, ["more", "secret_sauce"])


def deepseek(**changes: Any) -> str:
    return json.dumps({**catalog.entry("deepseek-v3").config, **changes})


HOSTILE = {
    "too large": " " * (2**20 + 1),
    "a million layers": deepseek(num_hidden_layers=10**6),
    "a million MTP layers": deepseek(num_nextn_predict_layers=10**6),
    "a billion experts": deepseek(n_routed_experts=10**9),
    "an endless number": deepseek(vocab_size=0).replace('"vocab_size": 0', '"vocab_size": ' + "9" * 4000),
    "a number that no float holds": deepseek(vocab_size=10**400),
    "not a number": deepseek(rope_theta=float("nan")),
    "nested lists": "[" * 100_000,
    "nested objects": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "deep but valid": json.dumps({"model_type": "llama", "a": json.loads("[" * 60 + "]" * 60)}),
    "not an object": "[1]",
    "not UTF-8": b"\xff\xfe{}",
    "twice the same key": '{"model_type": "llama", "model_type": "gpt2"}',
    "half a character": '{"model_type": "\\ud800"}',
    "nothing": "",
    "no model_type": "{}",
    "a tree that loops": deepseek(tree={"Decoder": {"layers": []}}),
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_config_is_refused_in_one_line_and_at_once(client: TestClient, body: str | bytes) -> None:
    begin = time.perf_counter()
    answer = post(client, body)
    assert time.perf_counter() - begin < 2
    assert answer.status_code == 422
    assert 0 < len(answer.json()["error"]) <= 500
    assert "\n" not in answer.json()["error"]


def test_a_body_without_end_is_cut_off(client: TestClient) -> None:
    answer = client.post("/api/architecture", headers={"content-length": str(2**40)}, content=b"{}")
    assert (answer.status_code, set(answer.json())) == (413, {"error"})

    def endless() -> Iterator[bytes]:
        yield from (b" " * 2**20 for _ in range(70))

    answer = client.post("/api/architecture", content=endless())  # in chunks, of no told length
    assert (answer.status_code, set(answer.json())) == (413, {"error"})


def test_markup_in_a_name_is_text(client: TestClient) -> None:
    name = "<img src=x onerror=alert(1)>&\x00\x1b[31m"
    answer = post(client, json.dumps(catalog.entry("gpt2").config), f"{name}.json").json()
    root = ET.fromstring(answer["drawing"]["svg"])  # well-formed, and without what was in the name
    assert not [node for node in root.iter() if node.tag.endswith("img")]
    assert answer["name"].startswith("<img src=x")
    assert answer["name"].isprintable()
    error = post(client, json.dumps({"model_type": "<script>alert(1)</script>"})).json()["error"]
    assert "<script>" in error  # JSON is no markup; the page shows it as text


# ------------------------------------------------------------------ weight files, of which only the header is read


def safetensors(tensors: dict[str, tuple[int, ...]], claimed: int | None = None) -> bytes:
    header, end = {}, 0
    for name, shape in tensors.items():
        size = 2
        for length in shape:
            size *= length
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if claimed is None else claimed) + text


def test_a_safetensors_header_says_what_it_fits_and_what_it_cannot_say(client: TestClient) -> None:
    own = {name: shape for entry in plain(architecture("smollm2-360m")) for name, shape in file_shapes(entry).items()}
    answer = post(client, safetensors(own), "model.safetensors", size=2**30).json()
    assert answer["parameters"] == cost(architecture("smollm2-360m"), context=1).parameters.total
    assert (answer["fits"], answer["layers"], answer["by_dtype"]) == (
        ["smollm-360m", "smollm2-360m"],
        32,
        {"BF16": answer["parameters"]},
    )
    assert any("heads" in line for line in answer["undetermined"])
    assert {"name": "model.layers.*.mlp.up_proj.weight", "dtype": "BF16", "shape": [2560, 960], "count": 32} in answer[
        "tensors"
    ]
    shard = {name: shape for name, shape in own.items() if "layers.7." in name}
    assert post(client, safetensors(shard), "a.safetensors", size=2**30).json()["fits"] == [
        "smollm-360m",
        "smollm2-360m",
    ]
    other = {name: (*shape[:-1], shape[-1] + 1) for name, shape in own.items()}
    assert post(client, safetensors(other), "a.safetensors", size=2**30).json()["fits"] == []


@pytest.mark.parametrize(
    "body",
    [
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 10**8) + b"{}",
        b"\x00",
        safetensors({}, claimed=1),
        struct.pack("<Q", 14) + b'{"a": {"x": 1}}'[:14],
        safetensors({"a": (2**40, 2**40)}),
    ],
)
def test_an_absurd_safetensors_header_is_refused(client: TestClient, body: bytes) -> None:
    answer = post(client, body, "model.safetensors", size=10**6)
    assert answer.status_code == 422
    assert "needs" not in answer.json()


def test_a_header_that_goes_on_says_how_far(client: TestClient) -> None:
    whole = safetensors({f"layers.{i}.weight": (4, 4) for i in range(200)})
    answer = post(client, whole[:100], "model.safetensors", size=10**6)
    assert (answer.status_code, answer.json()["needs"]) == (422, len(whole))
    assert post(client, whole, "model.safetensors", size=10**6).status_code == 200


def gguf(pairs: dict[str, Any], tensors: dict[str, tuple[int, ...]]) -> tuple[bytes, int]:
    """(the header, the size of the file)."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    body = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
    for key, value in pairs.items():
        code, packed = {
            str: (8, text),
            int: (4, lambda v: struct.pack("<I", v)),
            float: (6, lambda v: struct.pack("<f", v)),
        }[type(value)]
        body += text(key) + struct.pack("<I", code) + packed(value)
    end = 0
    for name, shape in tensors.items():
        body += text(name) + struct.pack("<I", len(shape))
        body += b"".join(struct.pack("<Q", n) for n in reversed(shape)) + struct.pack("<IQ", 0, end)
        size = 4
        for length in shape:
            size *= length
        end += -(-size // 32) * 32
    return body + b"\0" * (-len(body) % 32), -(-len(body) // 32) * 32 + end


def llama_gguf(**more: Any) -> tuple[bytes, int]:
    pairs = {
        "general.architecture": "llama",
        "llama.block_count": 1,
        "llama.context_length": 128,
        "llama.embedding_length": 64,
        "llama.feed_forward_length": 96,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        **more,
    }
    shapes = {
        "token_embd.weight": (256, 64),
        "output_norm.weight": (64,),
        "output.weight": (256, 64),
        "blk.0.attn_norm.weight": (64,),
        "blk.0.attn_q.weight": (64, 64),
        "blk.0.attn_k.weight": (32, 64),
        "blk.0.attn_v.weight": (32, 64),
        "blk.0.attn_output.weight": (64, 64),
        "blk.0.ffn_norm.weight": (64,),
        "blk.0.ffn_gate.weight": (96, 64),
        "blk.0.ffn_up.weight": (96, 64),
        "blk.0.ffn_down.weight": (64, 96),
    }
    return gguf(pairs, shapes)


def test_a_gguf_header_without_its_weights_gives_the_page(client: TestClient) -> None:
    header, size = llama_gguf()
    assert size > len(header) + 200_000  # the weights are not sent
    answer = post(client, header, "tiny.Q4.gguf", size=size).json()
    attention, mlp = 2 * 64 * 64 + 2 * 32 * 64, 3 * 96 * 64
    assert answer["parameters"] == 2 * 256 * 64 + attention + mlp + 3 * 64
    assert answer["name"] == "tiny.Q4"
    assert answer["weights"]["F32"] == {
        "tensors": 12,
        "elements": answer["parameters"],
        "bytes": 4 * answer["parameters"],
    }
    assert post(client, header[:300], "tiny.gguf", size=size).json()["needs"] > 300


def test_an_unknown_key_of_a_gguf_is_named(client: TestClient) -> None:
    header, size = llama_gguf(**{"llama.flux_capacitor": 3})
    refused = post(client, header, "tiny.gguf", size=size).json()
    assert refused["unknown"] == ["llama.flux_capacitor"]
    shown = post(client, header, "tiny.gguf", size=size, ignore="llama.flux_capacitor").json()
    assert shown["ignored"] == ["llama.flux_capacitor"]


def test_a_gguf_that_claims_more_than_its_size_is_refused(client: TestClient) -> None:
    header, size = llama_gguf()
    cut = post(client, header, "tiny.gguf", size=size - 10_000)
    assert (cut.status_code, "needs" in cut.json()) == (422, False)
    absurd = header[:8] + struct.pack("<QQ", 2**60, 2**60) + header[24:]
    assert post(client, absurd, "tiny.gguf", size=2**40).status_code == 422
    assert post(client, header, "tiny.gguf", size=10).status_code == 422
    assert post(client, header, "tiny.gguf", size="9" * 30).status_code == 422


def test_a_limit_is_a_limit() -> None:
    with pytest.raises(InputError, match="beyond what a number here may be"):
        upload.checked({"a": 2**53 + 1})
    upload.checked({"a": 2**53, "num_hidden_layers": upload.MOST_LAYERS})


# ------------------------------------------------------------------ the export


def test_the_export_is_the_same_data_and_replaces_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {path: make for path, make in data.files().items() if path in ("index.json", "thumbs/gpt2.svg")}
    monkeypatch.setattr(data, "files", lambda: few)
    target = tmp_path / "site"
    written = export(target)
    assert {path.relative_to(target).as_posix() for path in written} >= {"data/index.json", "data/thumbs/gpt2.svg"}
    assert (target / "data/thumbs/gpt2.svg").read_bytes() == few["thumbs/gpt2.svg"]()
    assert json.loads((target / "data/index.json").read_text("utf-8"))["served"] is False
    (target / "stale").write_text("")
    export(target)
    assert not (target / "stale").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["site"]  # nothing is left beside it
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="was not written by"):
        export(mine)
    assert (mine / "thesis.tex").exists()


def test_the_page_says_the_servers_policy_itself_for_hosts_that_send_no_headers() -> None:
    page = explorer()["index.html"]().decode()
    assert f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">' in page
    assert "http://" not in page
    assert "https://" not in page


def test_where_norms_stand_is_shown_in_the_drawing() -> None:
    rows = {(row["label"], row["role"]): row for row in page("gemma-3-1b")["aspects"]}
    assert rows["norms", "mixer"]["value"] == "before and after each branch"
    assert {"layers.0.mixer.post", "layers.0.mixer.pre"} <= set(rows["norms", "mixer"]["paths"])
    assert {"layers.0.mlp.post", "layers.0.mlp.pre"} <= set(rows["norms", "feed-forward"]["paths"])


def test_every_letter_of_an_equation_is_defined() -> None:
    for entry in catalog.entries():
        arch = known(entry.id)
        for spec in dict.fromkeys(node.spec for node in walk(arch, arch.width)):
            assert not undefined(describe(spec).equation or ""), describe(spec).equation
    assert undefined("x + ζ · Q_new") == ["ζ", "Q_new"]


def test_letters_mean_what_they_mean_there() -> None:
    mamba = symbols(describe(_mixer("nemotron-3-nano-30b-a3b", 0)).equation or "")
    latent = symbols(describe(_mixer("deepseek-v3", 0)).equation or "")
    assert mamba["c"].startswith("what is read from the memory")
    assert latent["c"].startswith("the latent that is kept for each token")


def _mixer(name: str, layer: int) -> Spec:
    return known(name).layers[layer].branches[0].body


def test_a_part_shows_the_forward_of_its_twin() -> None:
    found = forwards()
    assert found["RMSNorm"].file == "nn/norm.py"
    assert "torch.rsqrt(y.square().mean(-1, keepdim=True) + self.spec.eps)" in found["RMSNorm"].code
    assert found["RMSNorm"].code.startswith("def forward(self, x: Tensor) -> Tensor:")
    bodies = {
        type(branch.body).__name__ for e in catalog.entries() for x in known(e.id).layers for branch in x.branches
    }
    assert not bodies - set(found) - {"Parallel"}, "each body of the catalog has its lines"


def test_what_is_new_is_said_in_one_line() -> None:
    news = page("gemma-3-27b")["news"]
    assert news["after"] == catalog.entry("gemma-3-27b").predecessor
    assert news["label"]
