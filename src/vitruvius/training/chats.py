"""Conversations as tokens, with what is learned of them: the answers, and what ends them.

The chat template writes the conversation once. Before each answer stands what the template gives as the prompt for it,
so the tokens are those that the model will see and write: prompts and answers are encoded apart, as they are when it
answers.
"""

from __future__ import annotations

from typing import Any

from ..checkpoints.tokenizer import Tokenizer
from ..errors import InputError


def encoded(tokenizer: Tokenizer, messages: list[dict[str, Any]]) -> tuple[list[int], list[bool]]:
    """The ids of a conversation, and whether each is learned.

    Raises InputError where no answer is in it, or the template does not write a prompt before its answer.
    """
    whole, at = tokenizer.render(messages, add_generation_prompt=False), 0
    ids: list[int] = []
    learned: list[bool] = []

    def add(end: int, learn: bool) -> None:
        nonlocal at
        new = tokenizer.encode(whole[at:end], add_special_tokens=False) if end > at else []
        ids.extend(new)
        learned.extend([learn] * len(new))
        at = max(at, end)

    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = tokenizer.render(messages[:i], add_generation_prompt=True)
        answer = tokenizer.render(messages[: i + 1], add_generation_prompt=False)
        if not (whole.startswith(prompt) and whole.startswith(answer) and answer.startswith(prompt)):
            if i + 1 < len(messages):
                continue  # some templates leave out of earlier answers what was thought: those are read, not learned
            raise InputError(
                f"data: the chat template of {tokenizer.source} does not write an answer after the prompt for it, "
                f"so it cannot be told what to learn: {whole[:80]!r}"
            )
        add(len(prompt), False)
        add(len(answer), True)
    add(len(whole), False)
    if not any(learned):
        raise InputError(f"data: a conversation without an answer to learn: {str(messages)[:100]}")
    return ids, learned
