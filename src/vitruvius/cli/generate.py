"""`vitruvius generate MODEL`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from ..errors import InputError
from . import options, running
from .output import emit_json

if TYPE_CHECKING:
    from ..inference.answers import AnswerPart
    from ..inference.generation import Answer


@click.command()
@options.model
@click.option("-p", "--prompt", required=True, metavar="TEXT", help="The text to continue; - reads it from stdin.")
@click.option("--chat", is_flag=True, help="Answer the text as a user's message, by the model's own chat template.")
@running.system
@running.template_args
@running.max_new_tokens(256)
@running.sampling
@running.seed
@running.stop
@running.guessing
@running.executor
@options.as_json
def command(
    model: str,
    prompt: str,
    chat: bool,
    system: str | None,
    variables: dict[str, Any],
    max_new_tokens: int,
    seed: int | None,
    stop: tuple[str, ...],
    lookup: int,
    draft: int,
    how: running.How,
    as_json: bool,
    **sampling: Any,
) -> None:
    """The text that MODEL writes after a prompt, as it comes; its speed is told on stderr.

    The prompt is continued as it stands. With --chat, or a --system message, it is answered by the chat template; what
    the model thinks before it answers goes to stderr.
    """
    from ..inference.generation import stream_text

    chat = chat or system is not None
    if variables and not chat:
        raise InputError("--template-arg is for the chat template: add --chat")
    sampler = running.sampler(sampling, seed)
    text = read(prompt)
    loaded, tokenizer = running.load(model, how, draft > 0)
    said = messages(text, system) if chat else text
    answer = stream_text(
        loaded, tokenizer, said, max_new_tokens, sampler, stop, variables=variables, lookup=lookup, draft=draft
    )
    if as_json:
        with running.waiting("Generating"):
            parts = list(answer.parts())
        return emit_json(record(model, text, parts, answer))
    for _ in running.printed(answer):
        pass
    click.echo()
    click.echo(running.speed(answer, loaded.spec.context), err=True)
    if tokenizer.templates and not chat:
        click.echo("the prompt was continued as it stands; --chat answers it by the model's chat template", err=True)


def read(prompt: str) -> str:
    """The prompt's text, from stdin for "-", without the line break that ends the input."""
    text = prompt
    if prompt == "-":
        with running.utf8_stdin():
            text = sys.stdin.read().removesuffix("\n")
    if not text:
        raise InputError("the prompt is empty: give it with -p TEXT, or on stdin with -p -")
    return text


def messages(text: str, system: str | None) -> list[dict[str, Any]]:
    """A conversation of one turn."""
    before = [] if system is None else [{"role": "system", "content": system}]
    return [*before, {"role": "user", "content": text}]


def record(model: str, prompt: str, parts: list[AnswerPart], answer: Answer) -> dict[str, Any]:
    """What --json prints."""
    t = answer.timing
    return {
        "model": model,
        "prompt": prompt,
        "text": "".join(part.text for part in parts if part.channel == "text"),
        "reasoning": "".join(part.text for part in parts if part.channel == "reasoning"),
        "finish": answer.finish,
        "tokens": {"prompt": t.prompt, "new": t.tokens, "guessed": t.guessed, "accepted": t.accepted},
        "seconds": {"first_token": t.first, "decode": t.decode},
        "tokens_per_second": {"prefill": t.prefill_rate, "decode": t.decode_rate},
    }
