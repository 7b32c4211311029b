"""`vitruvius serve MODEL …`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..errors import InputError
from . import running

if TYPE_CHECKING:
    from ..server.api.models import Offer


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="[NAME=]MODEL...")
@click.option("--host", default="127.0.0.1", show_default=True, help="Another address lets other machines in.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes any free one.")
@click.option(
    "--api-key",
    "keys",
    multiple=True,
    envvar="VITRUVIUS_API_KEY",
    metavar="KEY",
    help="Only who gives it is answered; may be repeated. Better kept in VITRUVIUS_API_KEY, where nobody sees it.",
)
@click.option("--memory", metavar="SIZE", help="For weights and states, such as 8G. Default: 80 % of what is free.")
@click.option(
    "--running", "most", type=click.IntRange(1), default=64, show_default=True, help="Requests at work at once."
)
@click.option("--waiting", type=click.IntRange(0), default=256, show_default=True, help="More than these get a 429.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=600.0,
    show_default=True,
    help="Seconds for a request.",
)
@click.option(
    "--idle", type=click.FloatRange(0, min_open=True), help="Seconds after which an unused model is unloaded."
)
@click.option(
    "--drain", type=click.FloatRange(0), default=60.0, show_default=True, help="Seconds to finish after SIGTERM."
)
@click.option("--allow-origin", "origins", multiple=True, metavar="URL", help="A web page that may ask; * lets all.")
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    metavar="NAME=FOLDER",
    help="Serves the first MODEL with this LoRA adapter (PEFT's files) under NAME too, in PyTorch.",
)
@running.guessing
@running.executor
def command(
    models: tuple[str, ...],
    host: str,
    port: int,
    keys: tuple[str, ...],
    memory: str | None,
    most: int,
    waiting: int,
    timeout: float,
    idle: float | None,
    drain: float,
    origins: tuple[str, ...],
    adapters: tuple[str, ...],
    lookup: int,
    draft: int,
    how: running.How,
) -> None:
    """Serves models over HTTP, for clients of OpenAI's and Anthropic's interfaces.

    The first MODEL is loaded at once, others when they are asked for. NAME= gives one another name. Requests are
    answered side by side; what conversations have in common is read once.
    """
    from ..server.api.application import Service
    from ..server.api.memory import SHARE, free, parsed, shown
    from ..server.api.models import Limits, Models, opened
    from ..server.api.serving import listen, serve

    budget = int(SHARE * free()) if memory is None else parsed(memory)
    limits = Limits(running=most, waiting=waiting, seconds=timeout, idle=idle, lookup=lookup, draft=draft)
    offers = [offer(model, how, draft > 0) for model in models]
    offers += [adapted(models[0], adapter, how) for adapter in adapters]
    if len({each.name for each in offers}) < len(offers):
        raise InputError(
            f"two models have the same name: {', '.join(each.name for each in offers)}; give one as NAME=MODEL"
        )
    served = Models(offers, budget, limits)
    with listen(host, port) as listening:  # before the model is loaded, which takes longer
        first = opened(offers[0], limits)
        states = budget - offers[0].weights
        click.echo(f"{offers[0].name}: {shown(offers[0].weights)} of weights; {shown(states)} for states", err=True)
        service = Service(served, [first], host, keys, origins)
        told = "serving at {0}/v1, with a page to chat at {0}/ (stop it with Ctrl-C)"
        serve(service, listening, host, drain, lambda at: click.echo(told.format(at), err=True))


def offer(model: str, how: running.How, draft: bool = False) -> Offer:
    """What is served under a name; with `draft`, the layers for multi-token prediction too, where it has any. Raises
    InputError where there is nothing to serve."""
    from pathlib import Path

    from ..checkpoints.checkpoint import Checkpoint
    from ..checkpoints.pooling import Pooling
    from ..checkpoints.sources import weights
    from ..server.api.models import Offer
    from ..sizing import cost

    name, _, source = model.rpartition("=") if not Path(model).exists() else ("", "", model)
    path = weights(source)
    checkpoint = Checkpoint.open(source, how.ignore)
    formats = {"f32": "f32", "bf16": "bf16", "q8": "q8_0", "q4": "q4_1"}
    wanted = formats.get(how.weights or "") or (
        None if how.native else {"bfloat16": "bf16"}.get(how.dtype or "", "f32")
    )
    draft = draft and bool(checkpoint.spec.mtp)
    memory = cost(path, weights=wanted, ignore=how.ignore, draft=draft).memory
    size = memory.weights_bytes + (memory.mtp_bytes if draft else 0)
    called = name or (Path(source).name if Path(source).exists() else source)
    pooling = Pooling.of(path) if path.is_dir() else Pooling()
    open_ = lambda: running.load(source, how, draft)  # noqa: E731
    return Offer(called, checkpoint.spec, size, open_, checkpoint.defaults.sampling, pooling)


def adapted(model: str, adapter: str, how: running.How) -> Offer:
    """What is served of a model with an adapter, given as NAME=FOLDER. It has a copy of the weights of its own. Raises
    InputError for one that is not there."""
    from dataclasses import replace
    from pathlib import Path

    from ..checkpoints.adapters import AdapterFolder
    from ..checkpoints.tokenizer import tokenizer

    name, equals, folder = adapter.partition("=")
    if not (name and equals and folder):
        raise InputError(f"--adapter is NAME=FOLDER, not {adapter!r}")
    if how.must:
        raise InputError("adapters run in PyTorch: leave --weights and --engine native out, or merge it and export")
    AdapterFolder.open(folder)
    base = offer(model, replace(how, engine="torch"))
    source = model if Path(model).exists() else model.rpartition("=")[2]
    return replace(base, name=name, open=lambda: (running.load_torch(source, how, adapter=folder), tokenizer(source)))
