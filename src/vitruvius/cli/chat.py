"""`vitruvius chat MODEL`."""

from __future__ import annotations

import os
import re
import select
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from ..errors import InputError
from . import options, running

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..checkpoints.tokenizer import Tokenizer
    from ..inference.generation import Session
    from ..inference.sampling import Sampler

HELP = "Ctrl-C stops an answer, Ctrl-D leaves; /clear forgets the conversation, /help says this"
COMMAND = re.compile(r"/[a-z]+\b(?!/)")  # a path is none, nor is what begins with a space
PASTED = 0.05  # seconds within which the next line of a pasted text follows


@click.command()
@options.model
@running.system
@running.template_args
@running.max_new_tokens(1024)
@running.sampling
@running.seed
@running.stop
@running.executor
def command(
    model: str,
    system: str | None,
    variables: dict[str, Any],
    max_new_tokens: int,
    seed: int | None,
    stop: tuple[str, ...],
    how: running.How,
    **sampling: Any,
) -> None:
    """A conversation with MODEL in the terminal, by its own chat template.

    Ctrl-C stops an answer, Ctrl-D leaves, /clear forgets what was said. Several lines that are pasted are one message.
    Tokens are chosen as generation_config.json or the GGUF file asks, unless an option says otherwise.
    """
    from ..checkpoints.defaults import Defaults
    from ..checkpoints.sources import weights
    from ..inference.generation import Session

    running.sampler(sampling, seed)  # what cannot be is refused before minutes of loading
    loaded, tokenizer = running.load(model, how)
    begun = [] if system is None else [{"role": "system", "content": system}]
    tokenizer.chat([*begun, {"role": "user", "content": "?"}], **variables)  # refuses what the template cannot say
    path = weights(model)
    defaults = Defaults.of(path, {}).sampling
    sampler = running.sampler(sampling, seed, defaults)
    click.echo(f"{loaded.spec.name}: {HELP}", err=True)
    if taken := [f"{name} {value}" for name, value in defaults.items() if sampling[name] is None]:
        asking = "generation_config.json" if path.is_dir() else path.name
        click.echo(f"as {asking} asks: {', '.join(taken)}", err=True)
    conversation = Conversation(Session(loaded), tokenizer, sampler, begun, max_new_tokens, stop, variables)
    while (text := read()) is not None:
        asked = COMMAND.match(text)
        if text.rstrip() == "/clear":
            conversation.clear()
        elif text.rstrip() == "/help":
            click.echo(HELP, err=True)
        elif asked:
            click.echo(f"{asked[0]} is no command ({HELP}); a message may begin with a space", err=True)
        elif text.strip():
            conversation.say(text)


class Conversation:
    """Messages, and the session that remembers those it has read."""

    def __init__(
        self,
        session: Session,
        tokenizer: Tokenizer,
        sampler: Sampler,
        begun: list[dict[str, Any]],
        max_new_tokens: int,
        stop: tuple[str, ...],
        variables: Mapping[str, Any],
    ) -> None:
        self._session, self._tokenizer, self._sampler = session, tokenizer, sampler
        self._begun, self._limit, self._stop, self._variables = begun, max_new_tokens, stop, variables
        self.messages = list(begun)

    def clear(self) -> None:
        """Forgets all but the system message."""
        self.messages = list(self._begun)

    def fitted(self, asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The messages without as many of the oldest turns as leave too little room for the answer."""
        context = self._session.runner.spec.context
        most = context - min(self._limit, context // 4)
        first = len(self._begun)
        dropped = 0
        while len(asked) > first + 1 and len(self._tokenizer.chat(asked, **self._variables)) > most:
            del asked[first : first + 2]  # a question and its answer
            dropped += 1
        if dropped:
            turns = "the oldest turn is" if dropped == 1 else f"the {dropped} oldest turns are"
            click.echo(f"the context of {context:,} tokens is full: {turns} forgotten", err=True)
        return asked

    def say(self, text: str) -> None:
        """Prints the answer to a message; one that is stopped counts as far as it got."""
        from ..inference.generation import stream_text

        asked = [*self.messages, {"role": "user", "content": text}]
        try:
            asked = self.fitted(asked)
            answer = stream_text(
                self._session,
                self._tokenizer,
                asked,
                self._limit,
                self._sampler,
                self._stop,
                variables=self._variables,
            )
        except InputError as error:  # a message too long, for instance: the conversation before it is still there
            click.echo(f"{error} (/clear forgets the conversation)", err=True)
            return
        pieces: list[str] = []
        try:
            for piece in running.printed(answer):
                pieces.append(piece)
        except KeyboardInterrupt:
            pass
        click.echo()
        click.echo(click.style(running.speed(answer, self._session.runner.spec.context), dim=True), err=True)
        self.messages = [*asked, {"role": "assistant", "content": "".join(pieces)}]


def read() -> str | None:
    """One message, None at the end. Lines that are pasted together are one message; Ctrl-C gives up what was typed."""
    terminal = sys.stdin.isatty()
    if terminal and find_spec("readline"):
        import readline

        readline.parse_and_bind("set enable-bracketed-paste on")
    while True:
        try:
            line = _line("> " if terminal else "")
            lines = [] if line is None else [line]
            while terminal and line is not None and _more():
                lines.append(line := _line("") or "")
            return "\n".join(lines) if lines else None
        except KeyboardInterrupt:
            click.echo()


def _line(prompt: str) -> str | None:
    """A line from the terminal or the pipe, None at its end."""
    try:
        with running.utf8_stdin():
            return input(prompt)
    except EOFError:
        return None


def _more() -> bool:
    """Whether more of a pasted text is waiting. (Windows cannot tell.)"""
    return os.name == "posix" and bool(select.select([sys.stdin], [], [], PASTED)[0])
