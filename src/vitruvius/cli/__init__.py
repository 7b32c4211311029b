"""The command line: `vitruvius VERB MODEL [options]`.

A verb is one file of this folder with a click command called `command`, and one line in `VERBS`. Nothing is imported
before it is needed: `vitruvius cost` must start without torch, and `vitruvius --help` without any verb.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn

import click

from .. import __version__
from ..errors import InputError, InputWarning
from ..terminal import COLUMNS, measure

VERBS = {
    "catalog": "list the known models with their key figures",
    "show": "an architecture as text or drawing, with its figures and where they come from",
    "compare": "what differs between architectures, and their costs side by side",
    "cost": "parameters, state, FLOPs and memory at any context, batch and dtype",
    "shard": "the plan for many devices, without them: placements, memory, communication",
    "explore": "the gallery in the browser, or as static files",
    "plot": "charts of state, work, time, memory, parameters and training, as SVG or PNG",
    "tokens": "how many tokens a text has in each tokenizer, and what its formatting adds",
    "generate": "the text that a model writes after a prompt, streamed",
    "chat": "a conversation with a model in the terminal",
    "serve": "models over HTTP, for clients of OpenAI's and Anthropic's interfaces",
    "train": "a model from nothing, or from a checkpoint: a run in a folder",
    "export": "a Hugging Face folder of a model, which other programs load",
    "verify": "whether a model gives the same logits as in transformers",
    "eval": "how well a model predicts a text: perplexity and bits per byte",
    "bench": "how fast a model runs, as a ratio to transformers",
    "docs": "the guide and the reference, offline",
}
EXAMPLES = (
    "vitruvius show gemma-3-27b",
    "vitruvius compare gemma-3-27b mistral-small-3.1-24b --context 128k",
    'vitruvius generate smollm2-135m-instruct -p "The capital of France is"',
)
CLOSED_PIPE = 141  # what a shell reports for a program that SIGPIPE ended
INTERRUPTED = 130  # and SIGINT


class Verbs(click.Group):
    """The verbs, imported when they are called; errors are one line on stderr, and a reader who leaves is no error."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, in the order of the table."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb's command. A usage error, with the nearest verb, for one that does not exist."""
        if cmd_name not in VERBS:
            from difflib import get_close_matches

            near = get_close_matches(cmd_name, VERBS, 1)
            hint = f"did you mean {near[0]}?" if near else f"the verbs are {', '.join(VERBS)}"
            ctx.fail(f"no verb {cmd_name!r}; {hint}")
        command: click.Command = import_module(f"{__name__}.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs with one line each."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Reads the arguments; `--help` and `--version` print here."""
        with _readers_may_leave():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the verb and writes out what it printed, so that a closed pipe shows here and not at exit."""
        with _readers_may_leave():
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Ends the process: 0 done, 1 a check that failed, 2 unusable input."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal that has no × shows ?
        if os.environ.get("NO_COLOR"):
            kwargs["color"] = False
        warnings.showwarning = warned
        COLUMNS.set(measure())
        try:
            result = super().main(*args, **{"prog_name": "vitruvius", **kwargs, "standalone_mode": False})
            status = result if isinstance(result, int) else 0
        except InputError as error:
            status = refuse(str(error))
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else "vitruvius"
            status = refuse(f"{error.format_message().rstrip('.')} (see `{command} --help`)")
        except click.ClickException as error:
            status = refuse(error.format_message())
        except click.Abort:
            status = INTERRUPTED
        sys.exit(status)


@contextmanager
def _readers_may_leave() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at exit
        raise click.exceptions.Exit(CLOSED_PIPE) from None


def warned(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    """Says in one line what is probably not meant; warnings to developers are left out."""
    if issubclass(category, InputWarning):
        click.echo(f"vitruvius: note: {' '.join(str(message).split())}", err=True)


def refuse(message: str) -> int:
    """Says in one line what cannot be used. Returns the exit status for it."""
    click.echo(f"vitruvius: {' '.join(message.split())}", err=True)
    return 2


def _version(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        from .version import available

        click.echo(available())
        ctx.exit()


@click.group(
    name="vitruvius",
    cls=Verbs,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Examples:\n\n\b\n" + "\n".join(EXAMPLES),
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Say what is available."
)
@click.pass_context
def main(ctx: click.Context) -> None:
    """The LLM architecture gallery that runs.

    MODEL is a name from the catalog, a checkpoint's folder, a config.json, a .gguf file, or a hub id (org/name).
    """
    if ctx.invoked_subcommand is None:
        click.echo(f"{click.style(f'vitruvius {__version__}', bold=True)}: the LLM architecture gallery that runs\n")
        click.echo("\n".join(f"  {verb:<10} {line}" for verb, line in VERBS.items()))
        click.echo("\n" + "\n".join(f"  $ {example}" for example in EXAMPLES))
        click.echo("\n`vitruvius VERB --help` says more.")
