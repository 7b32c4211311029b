"""What untrained models start from: the moments of transformers' own beginnings."""

from __future__ import annotations

import math

import cases
import pytest
import reference
import torch

import vitruvius as vt
from vitruvius import spec
from vitruvius.nn.initial import drawn

FAMILIES = ("llama", "gemma3", "gpt2", "qwen3_next", "kimi_linear", "mamba2", "deepseek_v3", "gpt_oss", "mixtral")
DECAYS = {"qwen3_next": (0.01, 16.0), "kimi_linear": (1.0, 16.0), "mamba2": (1.0, 64.0)}  # of exp(A_log)
# sinks and selection biases are left unset by transformers; Mamba-2's own class alone begins its last matrix uniform,
# as torch.nn.Linear does
OTHERWISE = {"sinks", "selection_bias", "out_proj.weight"}


@pytest.mark.parametrize("name", [name for name in FAMILIES if name in cases.TEXT])
def test_moments_equal_transformers(name: str, tmp_path) -> None:
    config = dict(cases.TEXT[name]) | {"initializer_range": 0.013}
    torch.manual_seed(0)
    with reference.offline():
        reference.transformers_model(config).save_pretrained(tmp_path)
    reference.mend(tmp_path, config["model_type"])
    theirs, ours = vt.load(tmp_path).state_dict(), vt.build(tmp_path, seed=1).state_dict()
    assert theirs.keys() == ours.keys()
    for key, value in ours.items():
        other = theirs[key]
        if key.endswith(tuple(OTHERWISE)):
            continue
        if key.endswith("A_log"):
            low, high = DECAYS[name]
            assert all(low * 0.999 <= float(x) <= high * 1.001 for x in torch.cat((value, other)).exp()), key
        elif key.endswith("dt_bias"):
            both = value if name == "qwen3_next" else torch.cat((value, other))  # there: 1, see spec/recurrent.py
            steps = torch.nn.functional.softplus(both)
            assert all(0.000999 <= float(x) <= 0.1001 for x in steps), key
        elif other.unique().numel() == 1:
            assert torch.equal(value, other), key
        else:
            error = 5 / math.sqrt(2 * value.numel())
            assert float(value.std()) == pytest.approx(float(other.std()), rel=2 * error + 0.02), key
            assert (value.mean() - other.mean()).abs() <= 2 * error * other.std(), key


def test_drawn_numbers() -> None:
    generator = torch.Generator().manual_seed(0)
    steps = torch.nn.functional.softplus(drawn(spec.Drawn(0.001, 0.1, "inverse_softplus"), (20_000,), generator))
    assert (float(steps.min()), float(steps.max())) == (pytest.approx(0.001, rel=0.01), pytest.approx(0.1, rel=0.01))
    assert float(steps.log().mean()) == pytest.approx(math.log(0.01), abs=0.03)  # the geometric middle
    decays = drawn(spec.Drawn(1.0, 16.0, "log"), (20_000,), generator).exp()
    assert float(decays.mean()) == pytest.approx(8.5, abs=0.1)
    assert torch.equal(drawn(spec.Drawn(through="log_steps"), (3,), generator).exp().round(), torch.tensor([1.0, 2, 3]))


def test_the_same_seed_gives_the_same_model() -> None:
    a, b, c = (vt.build(cases.TEXT["llama"], seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not torch.equal(a["layers.0.mixer.body.q.weight"], c["layers.0.mixer.body.q.weight"])
