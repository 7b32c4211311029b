"""transformers as the reference: a tiny model of a config with random weights, as a checkpoint's folder, and its
logits."""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from cases import TOKENS
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

ALIASES = {"kimi_k2": "deepseek_v3"}  # transformers has no class of its own for it
SMALLEST_MARGIN = 1e-4  # between the last chosen and the first rejected score: float32 must not decide
ATTEMPTS = 40


@dataclass(frozen=True)
class Reference:
    """A checkpoint's folder, token ids (2, TOKENS), and what transformers computes: the logits, and every hidden
    state."""

    folder: Path
    input_ids: Tensor
    logits: Tensor
    hidden: tuple[Tensor, ...]


def make(config: Mapping[str, Any], folder: Path, seed: int = 0) -> Reference:
    """Writes a checkpoint of a tiny model into `folder`, as transformers writes it, and runs it there."""
    with offline():
        torch.manual_seed(seed)  # what transformers begins with is random for some vectors (decays)
        model = transformers_model(config)
        randomize(model, torch.Generator().manual_seed(seed))
        model.save_pretrained(folder)
    mend(folder, config["model_type"])
    written = json.loads((folder / "config.json").read_text("utf-8"))
    if config["model_type"] in ALIASES:
        (folder / "config.json").write_text(json.dumps(written | {"model_type": config["model_type"]}), "utf-8")
    vocab = config.get("text_config", config)["vocab_size"]
    generator = torch.Generator().manual_seed(seed + 1)
    for _ in range(ATTEMPTS):
        # the first half of the vocabulary: image tokens are in the second
        input_ids = torch.randint(3, vocab // 2, (2, TOKENS), generator=generator)
        with torch.no_grad(), Margins() as margins:
            result = model(input_ids=input_ids, use_cache=False, output_hidden_states=True)
        if margins.smallest >= SMALLEST_MARGIN:
            hidden = tuple(result.hidden_states)
            if config["model_type"] == "mamba2":  # its list begins after the first layer
                hidden = (model.get_input_embeddings()(input_ids).detach(), *hidden[:-2], hidden[-1])
            return Reference(folder, input_ids, result.logits.detach(), hidden)
    raise AssertionError(f"experts are chosen by less than {SMALLEST_MARGIN} on every input")


def mend(folder: Path, model_type: str) -> None:
    """Gives the names of the hub back to what transformers renames too broadly when it saves; it loads these too."""
    if model_type not in ("kimi_linear", "olmo_hybrid", "qwen3_vl_moe"):
        return
    tensors = load_file(folder / "model.safetensors")
    attention = tuple(name.removesuffix("self_attn.q_proj.weight") for name in tensors if "self_attn.q_proj" in name)

    def hub(name: str) -> str:
        if model_type == "kimi_linear":  # in a dense layer nothing is sparse
            return re.sub(r"block_sparse_moe(\.\w+_proj\.)", r"mlp\1", name)
        return (
            name.replace("feedforward_layer_norm", "post_attention_layernorm") if name.startswith(attention) else name
        )

    if model_type == "qwen3_vl_moe":
        stacks = [name for name in tensors if ".experts." in name]
        tensors |= {name: tensors[name].transpose(1, 2).contiguous() for name in stacks}
    save_file({hub(name): value for name, value in tensors.items()}, folder / "model.safetensors", {"format": "pt"})


def transformers_model(config: Mapping[str, Any]) -> nn.Module:
    """The model of that config in float32, its plain implementation."""
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    values = copy.deepcopy(dict(config))
    model_type = values.pop("model_type")
    made = AutoConfig.for_model(ALIASES.get(model_type, model_type), **values)
    auto = AutoModelForImageTextToText if "text_config" in config else AutoModelForCausalLM
    if model_type == "mistral4":  # which its automatic class does not know
        auto = transformers.Mistral4ForCausalLM
    build = auto._from_config if model_type == "mistral4" else auto.from_config
    model: nn.Module = build(made, attn_implementation="eager", experts_implementation="eager")
    return model.float().eval()


@torch.no_grad()
def randomize(model: nn.Module, generator: torch.Generator, gain: float = 1.3) -> None:
    """Random values for every parameter and stored buffer: vectors around what they start from (norms, biases,
    selection biases), matrices such that what they give is about as large as what they get."""
    transposed = {f"{name}.weight" for name, module in model.named_modules() if type(module).__name__ == "Conv1D"}
    for name, tensor in model.state_dict(keep_vars=True).items():
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim < 2:
            tensor.add_(noise, alpha=0.3)
        else:
            fan = tensor.shape[0 if name in transposed else -1]
            tensor.copy_(gain / fan**0.5 * noise)


class Margins(TorchDispatchMode):
    """Notes the smallest difference between the last chosen and the first rejected of all top-k selections."""

    def __init__(self) -> None:
        super().__init__()
        self.smallest = float("inf")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.topk.default and args[1] < args[0].shape[-1]:
            best = args[0].sort(-1, descending=True).values
            margin = best[..., args[1] - 1] - best[..., args[1]]
            hidden = best[..., args[1]] < torch.finfo(torch.float32).min / 2  # by a mask: then there was no choice
            self.smallest = min(self.smallest, float(margin.masked_fill(hidden, torch.inf).min()))
        return func(*args, **(kwargs or {}))


@contextmanager
def offline() -> Iterator[None]:
    """transformers must not ask the hub for anything, nor draw progress bars."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    yield


@torch.no_grad()
def logits(folder: Path, input_ids: Tensor) -> Tensor:
    """What transformers computes with the checkpoint in `folder`."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    with offline():
        model = transformers_model({key: value for key, value in config.items() if key != "architectures"})
        loaded = type(model).from_pretrained(
            folder, config=model.config, attn_implementation="eager", experts_implementation="eager"
        )
        result: Tensor = loaded(input_ids=input_ids, use_cache=False).logits
    return result
