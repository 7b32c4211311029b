"""config.json files of public repositories, as they stand there: sized without an option, and the parameters are those
that transformers 5.23 has on the meta device.

`real_configs.jsonl` holds one a line: its name on the hub, the public copy that it was read from, the file itself, and
the parameters of its text model (weights, and the buffers that routers select with).
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from reference import ALIASES, offline

import vitruvius as vt
from vitruvius.cost import cost

LINES = Path(__file__).with_name("real_configs.jsonl").read_text("utf-8").splitlines()
CONFIGS: dict[str, dict[str, Any]] = {line["name"]: line for line in map(json.loads, LINES)}
BY_CONFIG = pytest.mark.parametrize("name", CONFIGS)
SELECTION = ("e_score_correction_bias", "expert_bias")  # buffers that a file holds, as DeepSeek V3 has them


def test_they_are_many_and_each_says_where_it_is_from() -> None:
    assert len(LINES) == len(CONFIGS) >= 60
    assert len({line["config"]["model_type"] for line in CONFIGS.values()}) >= 25
    assert all("@" in line["source"] for line in CONFIGS.values())


@BY_CONFIG
def test_a_real_config_is_sized_without_an_option(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nor is anything left out
        sized = cost(vt.architecture(CONFIGS[name]["config"]), context=1024)
    assert sized.parameters.total == CONFIGS[name]["parameters"]


@pytest.mark.slow
@BY_CONFIG
def test_transformers_counts_as_many(name: str) -> None:
    """What stands in the file is what transformers builds."""
    import transformers

    values = dict(CONFIGS[name]["config"])
    for key in ("quantization_config", "auto_map"):
        values.pop(key, None)
    model_type = values.pop("model_type")
    with offline(), torch.device("meta"):
        config = transformers.AutoConfig.for_model(ALIASES.get(model_type, model_type), **values)
        kind = (values.get("architectures") or [""])[0]
        auto = transformers.AutoModelForCausalLM
        model = getattr(transformers, kind)(config) if hasattr(transformers, kind) else auto.from_config(config)
        model.tie_weights()
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    sizes |= {name: b.numel() for name, b in model.named_buffers() if name.endswith(SELECTION)}
    if any(name.startswith(("model.language_model.", "language_model.")) for name in sizes):
        text = ("model.language_model.", "language_model.", "lm_head.")
        sizes = {name: size for name, size in sizes.items() if name.startswith(text)}
    assert sum(sizes.values()) == CONFIGS[name]["parameters"]
