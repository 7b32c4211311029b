"""params.json, in which Mistral's own format has what config.json has elsewhere.

The facts are those of mistralai/mistral-inference (args.py) and of transformers' conversion (models/mistral,
convert_mistral_weights_to_hf.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError

# Mistral's name -> config.json's
NAMES = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "head_dim": "head_dim",
    "hidden_dim": "intermediate_size",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "norm_eps": "rms_norm_eps",
    "vocab_size": "vocab_size",
    "rope_theta": "rope_theta",
    "sliding_window": "sliding_window",
    "tied_embeddings": "tie_word_embeddings",
    "max_position_embeddings": "max_position_embeddings",
    "max_seq_len": "max_position_embeddings",
}
POSITIONS = 32768  # transformers' conversion, where nothing is said


def of_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json that a params.json of Mistral's amounts to.

    Raises InputError for what it says beyond Mistral 7B's layer: experts, latent attention, vision.
    """
    config: dict[str, Any] = {"model_type": "mistral", "hidden_act": "silu", "max_position_embeddings": POSITIONS}
    other = [key for key, value in params.items() if key not in NAMES and value and key != "max_batch_size"]
    if other or "dim" not in params:
        said = f"; {', '.join(sorted(other)[:4])} cannot be read there" if other else ""
        raise InputError(
            f"params.json is Mistral's own format, of which only dense text models are read{said}: "
            "give the config.json of the repository in Hugging Face's format"
        )
    values = {"sliding_window": None, "tie_word_embeddings": False, "rope_theta": 10000.0}
    return config | values | {NAMES[key]: value for key, value in params.items() if key in NAMES}
