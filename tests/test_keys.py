"""Keys of a config that nothing reads: what says nothing passes, figures name the rest, and running refuses it."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import cases
import pytest

import vitruvius as vt
from vitruvius.errors import InputWarning

LLAMA = cases.TEXT["llama"]


@pytest.mark.parametrize("value", [None, False, 0, 0.0, "", [], {}])
def test_a_key_that_says_nothing_passes(value: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert vt.architecture({**LLAMA, "shiny": value}) == vt.architecture(LLAMA)


@pytest.mark.parametrize(
    "key", ["_attn_implementation_autoset", "transformers.js_config", "image_break_token_id", "predict_special_tokens"]
)
def test_a_key_that_is_never_of_the_architecture_passes(key: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert vt.architecture({**LLAMA, key: 3}) == vt.architecture(LLAMA)


def test_keys_of_a_wrappers_other_parts_pass_and_no_others() -> None:
    """moonshotai/Kimi-K2.5 has use_unified_vision_chunk and media_placeholder_token_id; `intermediate` is no medium."""
    wrapper = {"model_type": "kimi_k25", "text_config": LLAMA, "vision_config": {"depth": 2}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        others = {"use_unified_vision_chunk": True, "video_placeholder": "x", "mm_projector_lr": 1e-5, "nothing": None}
        assert vt.architecture(wrapper | others) == vt.architecture(LLAMA)
    for key in ("intermediate_scale", "communication"):
        with pytest.warns(InputWarning, match=f"^the config: the wrapper holds {key}"):
            vt.architecture(wrapper | {key: 2})


def test_a_size_that_is_said_twice_must_be_the_same() -> None:
    """nvidia/GLM-5.2-NVFP4 says num_experts beside n_routed_experts."""
    config = cases.TEXT["glm_moe_dsa"]
    same = {"num_experts": config["n_routed_experts"]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert vt.architecture({**config, **same}) == vt.architecture(config)
    with pytest.warns(InputWarning, match="unknown key n_routed_experts"):
        vt.architecture({**config, "num_experts": config["n_routed_experts"] * 2})


def saved(folder: Path, **keys: Any) -> Path:
    vt.save(vt.build(LLAMA), folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | keys), "utf-8")
    return folder


def test_a_key_of_another_program_passes(tmp_path: Path) -> None:
    """What transformers and older Llama files write, and none of them reads (field report b22)."""
    others = {"max_sequence_length": 2048, "_model_name_or_path": "someone/model", "unk_token_id": 3, "seq_length": 64}
    folder = saved(tmp_path, **others)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert vt.load(folder).spec == vt.architecture(folder) == vt.architecture(LLAMA)


def test_what_cohere_released_says_what_is_taken_for_granted() -> None:
    """The keys of CohereLabs/tiny-aya-earth's config.json beside transformers' own (huggingface/trl)."""
    config = cases.TEXT["cohere2"] | {
        "cache_implementation": "hybrid",
        "layer_switch": 4,
        "order_of_interleaved_layers": "local_attn_first",
        "position_embedding_type": "rope_gptj",
        "rotary_pct": 1.0,
        "use_embedding_sharing": True,
        "use_gated_activation": True,
        "use_parallel_block": True,
        "use_parallel_embedding": True,
        "use_qk_norm": False,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert vt.architecture(config) == vt.architecture(cases.TEXT["cohere2"])
    for key, other in (("rotary_pct", 0.5), ("order_of_interleaved_layers", "global_attn_first")):
        with pytest.raises(vt.InputError, match=f"{key} .* is not supported"):
            vt.architecture(config | {key: other})


def test_figures_name_a_key_that_is_left_out_and_running_refuses_it(tmp_path: Path) -> None:
    folder = saved(tmp_path, shiny=2, other="x")
    with pytest.warns(InputWarning, match="unknown keys other, shiny .*which these figures leave out"):
        assert vt.architecture(folder) == vt.architecture(LLAMA)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert vt.architecture(folder, ignore=["shiny", "other"]) == vt.architecture(LLAMA)
    for run in (vt.load, vt.engine):
        with pytest.raises(vt.InputError, match="run it all the same with --ignore-key other --ignore-key shiny"):
            run(folder)
    assert vt.load(folder, ignore=["shiny", "other"]).spec == vt.architecture(LLAMA)


@pytest.mark.parametrize("verb", [["cost"], ["show"], ["shard", "--devices", "1x2"]])
def test_every_verb_says_it_once_and_takes_the_option(verb: list[str], tmp_path: Path) -> None:
    folder = str(saved(tmp_path, shiny=2))
    said, silent = run(*verb, folder), run(*verb, folder, "--ignore-key", "shiny")
    assert said.stderr.count("unknown key shiny") == 1
    assert (silent.stderr, silent.stdout) == ("", said.stdout)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from vitruvius.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
