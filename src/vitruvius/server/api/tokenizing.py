"""`POST /tokenize` and `/detokenize`, `GET /tokenizer_info`: a model's tokenizer, as vLLM offers it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .conversation import MESSAGES, TOOLS, said
from .fields import Field, Flag, ListOf, MapOf, Object, String, Whole, required
from .models import LiveModel
from .options import MODEL
from .spelling import spelled

if TYPE_CHECKING:
    from ...checkpoints.tokenizer import Tokenizer

TOKENIZE = Object(
    {
        "model": MODEL,
        "prompt": Field(String(), "a text; or give `messages`"),
        "messages": Field(MESSAGES, "a conversation"),
        "tools": Field(TOOLS),
        "add_special_tokens": Field(Flag(), "whether the first token is added; for a text yes, if it is left out"),
        "add_generation_prompt": Field(Flag(), "whether the beginning of an answer is added"),
        "chat_template_kwargs": Field(MapOf(), "variables of the chat template"),
        "return_token_strs": Field(Flag()),
    }
)
DETOKENIZE = Object({"model": MODEL, "tokens": required(ListOf(Whole(0, 2**31 - 1)))})


def tokenized(live: LiveModel, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The ids of a text or a conversation."""
    tokenizer = live.tokenizer
    if "messages" in asked:
        variables: dict[str, Any] = {**asked.get("chat_template_kwargs", {})}
        variables["add_generation_prompt"] = asked.get("add_generation_prompt", True)
        if "tools" in asked:
            variables["tools"] = asked["tools"]
        text, special = tokenizer.render(said(asked["messages"]), **variables), asked.get("add_special_tokens", False)
    else:
        text, special = asked.get("prompt", ""), asked.get("add_special_tokens", True)
    ids = tokenizer.encode(text, special)
    strings = [spelled(tokenizer, i)[0] for i in ids] if asked.get("return_token_strs") else None
    return {"count": len(ids), "max_model_len": live.spec.context, "tokens": ids, "token_strs": strings}


def detokenized(live: LiveModel, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The text of ids."""
    return {"prompt": live.tokenizer.decode(asked["tokens"])}


def described(tokenizer: Tokenizer, context: int) -> dict[str, Any]:
    """What evaluators ask: the special tokens and the chat template."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "vocab_size": tokenizer.vocab_size,
        **dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token")),
        **tokenizer.specials,
        "chat_template": tokenizer.templates.get("default"),
    }
