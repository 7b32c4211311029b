"""Nouns of other packages: what they say is checked like our own, and they are saved, run and lowered.

This file writes types as types: it is without `from __future__ import annotations`, as other packages may be.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from math import exp, inf, nan
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import vitruvius as vt
from vitruvius import spec, views
from vitruvius.nn.model import weights_of
from vitruvius.spec import Causal, Decoder, Size, Spec, Window

# ------------------------------------------------------------------ checks read types, not their text


@dataclass(frozen=True, kw_only=True)
class Pooling(Spec):
    """A part as another package may write it."""

    size: Size
    factor: float
    stride: Size | None = None
    cap: float | None = None
    words: str | None = None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 0}, "Pooling.size must be a positive integer, got 0"),
        ({"size": True}, "Pooling.size must be a positive integer, got True"),
        ({"size": None}, "Pooling.size must be a positive integer, got None"),
        ({"factor": nan}, "Pooling.factor must be a finite number, got nan"),
        ({"factor": "1"}, "Pooling.factor must be a finite number, got '1'"),
        ({"stride": -1}, "Pooling.stride must be a positive integer, got -1"),
        ({"cap": inf}, "Pooling.cap must be a finite number, got inf"),
    ],
)
def test_a_class_without_the_future_import_is_checked(given: dict[str, Any], message: str) -> None:
    assert Pooling(size=2, factor=1).cap is None
    with pytest.raises(ValueError, match=message):
        Pooling(**{"size": 2, "factor": 1.0, **given})


def test_what_must_be_there_is_asked_for() -> None:
    with pytest.raises(ValueError, match=r"Branch\.body must be given, got None"):
        spec.Branch(name="mixer", body=None)


def test_types_that_cannot_be_read_are_named() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Lost(Spec):
        size: "Nowhere"  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(TypeError, match="the types of Lost's fields cannot be read: name 'Nowhere' is not defined"):
        Lost(size=1)


# ------------------------------------------------------------------ what the package shows


def test_the_vocabulary_is_public_and_holds_no_modules() -> None:
    names: dict[str, Any] = {}
    exec("from vitruvius.spec import *", names)
    del names["__builtins__"]
    assert sorted(names) == sorted(spec.__all__)
    assert not [name for name, value in names.items() if isinstance(value, ModuleType)]
    assert len(names) > 100
    kinds = {name for name, value in vars(spec).items() if isinstance(value, type)}
    assert kinds <= set(spec.__all__), "nothing public is left out"


def test_the_package_has_types() -> None:
    assert (Path(vt.__file__).parent / "py.typed").exists()


# ------------------------------------------------------------------ a package beside ours: differential attention

EXAMPLE = Path(__file__).parent.parent / "examples" / "differential_attention"
LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "vocab_size": 101,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
}
TOKENS = 40


@pytest.fixture(scope="module", autouse=True)
def package() -> Iterator[None]:
    """The package can be imported here; its parts register themselves."""
    sys.path.insert(0, str(EXAMPLE / "src"))
    for name in ("spec", "nn", "lowering", "description"):
        import_module(f"differential_attention.{name}")
    yield
    sys.path.remove(str(EXAMPLE / "src"))


def tree() -> Decoder:
    """A Llama with differential attention; the second layer sees a window."""
    arch = import_module("differential_attention.spec").differential(vt.architecture(LLAMA))
    return vt.replace(arch, "layers.1.mixer.body.mask", Window(size=7))


def model() -> Any:
    """Random everywhere, so that λ is not what it begins with."""
    made, generator = vt.build(tree()), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return made


def tokens() -> Tensor:
    return torch.randint(101, (2, TOKENS), generator=torch.Generator().manual_seed(0))


def test_it_costs_what_the_one_that_it_replaces_does() -> None:
    """Section 3.1: as many weights; here λ's vectors and the heads' norms besides. Scores are as many, values twice."""
    before, after = vt.cost(vt.architecture(LLAMA), context=TOKENS), vt.cost(tree(), context=TOKENS)
    assert after.parameters.total - before.parameters.total == 3 * (4 * 8 + 16)
    assert after.state.bytes_per_token == before.state.bytes_per_token
    full, windowed = Causal().pairs(TOKENS), Window(size=7).pairs(TOKENS)
    scores = (2 * 4 * 6 * 8) * (2 * full + windowed) - (2 * 8 * 2 * 8) * 3 * full
    assert after.flops.prefill - before.flops.prefill == scores


def test_it_is_drawn_and_compared_in_its_own_words() -> None:
    drawn = " ".join(re.sub("[│├└─┤]", " ", views.tree(tree())).split())
    assert "differential attention 4 heads with two queries each" in drawn
    assert "λ from 0.356 window 7" in drawn
    assert "Differential attention" in [box.text for box in vt.draw(tree()).boxes]
    difference = str(vt.compare(vt.architecture(LLAMA), tree()))
    assert "differential attention" in difference
    equation = views.describe(tree().layers[0].branches[0].body).equation
    assert equation is not None
    assert "softmax(q₁ k₁ᵀ / √8) − λ softmax(q₂ k₂ᵀ / √8)" in equation
    assert "+ 0.2" in equation


@torch.no_grad()
def test_it_computes_the_papers_equation() -> None:
    """Arithmetic by hand, for one layer without positions: arXiv 2410.05258, equations 1 to 3."""
    made = vt.build(vt.replace(vt.replace(tree(), "layers.*.mixer.body.positions", None), "layers", lambda x: x[2:]))
    generator = torch.Generator().manual_seed(2)
    for parameter in made.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    part, given = made.layers[0].get_submodule("mixer.body"), []
    part.register_forward_hook(lambda module, inputs, output: given.append((inputs[0], output)))
    made(tokens())
    (x, found), w = given[0], dict(part.named_parameters())
    q = (x @ w["q.weight"].T).view(2, TOKENS, 4, 2, 8)
    k = (x @ w["k.weight"].T).view(2, TOKENS, 2, 2, 8)
    v = (x @ w["v.weight"].T).view(2, TOKENS, 2, 16)
    start = 0.8 - 0.6 * exp(-0.3 * 2)
    factor = exp(w["lambda_q1"] @ w["lambda_k1"]) - exp(w["lambda_q2"] @ w["lambda_k2"]) + start
    heads = []
    for head in range(4):
        maps = []
        for i in range(2):
            scores = q[:, :, head, i] @ k[:, :, head // 2, i].transpose(1, 2) / 8**0.5
            hidden = torch.ones(TOKENS, TOKENS).triu(1).bool()
            maps.append(scores.masked_fill(hidden, -inf).softmax(-1))
        y = (maps[0] - factor * maps[1]) @ v[:, :, head // 2]
        y = y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w["norm.weight"]
        heads.append((1 - start) * y)
    torch.testing.assert_close(found, torch.cat(heads, -1) @ w["o.weight"].T, atol=1e-5, rtol=0)


@torch.no_grad()
def test_in_chunks_and_step_by_step_it_is_the_same() -> None:
    made, ids = model(), tokens()
    assert {name: tuple(x.shape) for name, x in made.state_dict().items()} == {
        name: shape for name, (_, shape) in weights_of(made.spec).items()
    }
    state, whole = made.new_state(2, TOKENS), made(ids)
    assert state.nbytes == vt.cost(made.spec, context=TOKENS, batch=2, dtype="f32").state.bytes
    parts = [made(chunk, state) for chunk in ids.split([17, 5, *[1] * (TOKENS - 22)], 1)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=3e-5, rtol=0)


RUN = """
import json, sys
import numpy as np
import vitruvius as vt
from vitruvius import views
folder = sys.argv[1]
tree = vt.architecture(folder)
known = sorted(name for name in sys.modules if name.startswith(("differential_attention", "torch")))
drawn = views.tree(tree)
ids = np.load(folder + "/ids.npy")
native = vt.engine(folder)(ids)
without = "torch" not in sys.modules
import torch
with torch.no_grad():
    logits = vt.load(folder)(torch.from_numpy(ids))
np.save(folder + "/native.npy", native)
np.save(folder + "/logits.npy", logits.numpy())
print(json.dumps({"known": known, "drawn": drawn, "without": without}))
"""


def installed(folder: Path) -> Path:
    """What an installer writes of the package, its entry points above all."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text("utf-8"))["project"]
    info = folder / "differential_attention-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


def fresh(code: str, folder: Path, *extra: Path) -> subprocess.CompletedProcess[str]:
    """A process that has `extra` on its path."""
    path = os.pathsep.join(map(str, (Path(vt.__file__).parent.parent, *extra)))
    command = [sys.executable, "-c", code, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False)


@torch.no_grad()
def test_a_fresh_process_finds_it_through_its_entry_points(tmp_path: Path) -> None:
    """Saved here; loaded, drawn and run by both executors there."""
    made, ids = model(), tokens()
    assert vt.save(made, tmp_path) == []
    np.save(tmp_path / "ids.npy", ids.numpy())
    done = fresh(RUN, tmp_path, installed(tmp_path / "site"), EXAMPLE / "src")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["known"] == ["differential_attention", "differential_attention.spec"], "and nothing else, nor torch"
    assert "differential attention" in told["drawn"]
    assert told["without"], "the native engine needs no torch"
    logits = made(ids).numpy()
    assert np.array_equal(np.load(tmp_path / "logits.npy"), logits)
    np.testing.assert_allclose(np.load(tmp_path / "native.npy"), logits, atol=1e-4, rtol=0)


def test_a_tree_imports_nothing_that_no_entry_point_names(tmp_path: Path) -> None:
    """The module could be imported, but nobody has declared it."""
    vt.save(model(), tmp_path)
    code = (
        "import sys, vitruvius as vt\n"
        "try:\n    vt.architecture(sys.argv[1])\n"
        "except vt.InputError as error:\n    print(error)\n"
        "print([name for name in sys.modules if name.startswith('differential')])"
    )
    done = fresh(code, tmp_path, EXAMPLE / "src")
    assert re.fullmatch(r".*unknown kind 'DifferentialAttention'\n\[\]\n", done.stdout), done.stdout + done.stderr
    site = installed(tmp_path / "site")
    entries = site / "differential_attention-0.1.0.dist-info" / "entry_points.txt"
    entries.write_text("[vitruvius.nouns]\nbroken = nowhere.at_all\n")
    done = fresh(code, tmp_path, site, EXAMPLE / "src")
    assert "nowhere.at_all, which vitruvius.nouns names, cannot be imported" in done.stdout, done.stdout + done.stderr


def test_a_name_that_is_taken_is_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class RMSNorm(Spec):
        eps: float

    with pytest.raises(ValueError, match=r"a noun is called RMSNorm already, in vitruvius\.spec\.norm"):
        spec.noun(RMSNorm)
    assert spec.NOUNS.find("RMSNorm") is spec.RMSNorm
