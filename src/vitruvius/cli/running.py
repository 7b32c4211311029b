"""What the verbs that run a model share: options, loading with a progress display, and what is said at the end."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import reduce, wraps
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from ..errors import InputError
from . import options

if TYPE_CHECKING:
    from ..checkpoints.tokenizer import Tokenizer
    from ..inference.generation import Answer
    from ..inference.runner import Runner
    from ..inference.sampling import Sampler

F = TypeVar("F", bound=Callable[..., Any])

dtype = click.option(
    "--dtype", default="float32", show_default=True, help="Of the weights: float32, bfloat16, float16."
)
seed = click.option("--seed", type=click.IntRange(0), help="Of the random numbers; without it each run is different.")
system = click.option("--system", metavar="TEXT", help="The system message.")
stop = click.option("--stop", multiple=True, metavar="TEXT", help="Ends the answer where this text would begin.")

_SAMPLING = (
    click.option("--temperature", type=float, help="0 takes the most probable token."),
    click.option("--top-k", type=int, help="Choose among the K most probable tokens."),
    click.option("--top-p", type=float, help="Choose among the most probable tokens that together reach P."),
    click.option("--min-p", type=float, help="Leave out tokens less likely than P times the most probable one."),
    click.option("--repetition-penalty", type=float, help="Above 1: repeat less."),
)


def variable(text: str) -> tuple[str, Any]:
    """NAME=VALUE of `--template-arg`; a value that is not JSON is a text."""
    name, equals, value = text.partition("=")
    if not (equals and name.isidentifier()):
        raise InputError(f"--template-arg is NAME=VALUE, such as enable_thinking=false, not {text!r}")
    try:
        found = json.loads(value)
    except ValueError as error:
        if name in LISTS:
            raise InputError(f"--template-arg {name} is a JSON list of objects, and this is no JSON: {error}") from None
        return name, value
    if name in LISTS and not (isinstance(found, list) and all(isinstance(item, dict) for item in found)):
        raise InputError(f"--template-arg {name} is a JSON list of objects, not {value!r:.80}")
    return name, found


LISTS = ("tools", "documents")  # what templates go through


template_args = click.option(
    "--template-arg",
    "variables",
    multiple=True,
    metavar="NAME=VALUE",
    callback=lambda context, option, given: dict(map(variable, given)),
    help="A variable of the chat template, such as enable_thinking=false or reasoning_effort=high; VALUE may be JSON.",
)


def sampling(command: F) -> F:
    """The options that `Sampler` takes, except the seed; None where one is not given."""
    return reduce(lambda wrapped, option: option(wrapped), reversed(_SAMPLING), command)


def sampler(given: Mapping[str, Any], seed: int | None, defaults: Mapping[str, Any] | None = None) -> Sampler:
    """How the next token is chosen: by the options that are given, else by the defaults."""
    from ..inference.sampling import Sampler

    options = {name: value for name, value in given.items() if value is not None}
    return Sampler(seed=seed, **{**(defaults or {}), **options})


def max_new_tokens(default: int) -> Callable[[F], F]:
    """The option that limits an answer."""
    return click.option("--max-new-tokens", type=click.IntRange(1), default=default, show_default=True, metavar="N")


@dataclass(frozen=True)
class How:
    """What runs a model, and how: the options of `executor`."""

    engine: str
    weights: str | None
    threads: int | None
    dtype: str | None
    device: str | None
    ignore: tuple[str, ...]

    @property
    def native(self) -> bool:
        """Whether the native engine is to be tried. Raises InputError where options contradict each other."""
        ours = [f"--weights {self.weights}"] if self.weights else []
        theirs = [f"--{name} {value}" for name, value in (("dtype", self.dtype), ("device", self.device)) if value]
        if self.engine == "native" or ours:
            if self.engine == "torch":
                raise InputError(f"{ours[0]} is for the native engine, and --engine torch excludes it")
            if theirs:
                raise InputError(f"{theirs[0]} is for PyTorch; the native engine takes --weights")
            return True
        return self.engine == "auto" and not theirs

    @property
    def must(self) -> bool:
        """Whether only the native engine will do."""
        return self.engine == "native" or self.weights is not None


engine = click.option(
    "--engine",
    type=click.Choice(["auto", "native", "torch"]),
    default="auto",
    show_default=True,
    help="What runs the model: the native CPU engine, where it is built and covers the model, or PyTorch.",
)
weights = click.option(
    "--weights",
    type=click.Choice(["as-is", "f32", "bf16", "q8", "q4"]),
    help="The native engine's format of weights. Default: as they are stored.",
)
threads = click.option("--threads", type=click.IntRange(1), help="Default: one for each processor.")
_EXECUTOR = (
    engine,
    weights,
    threads,
    click.option("--dtype", help="Of the weights in PyTorch: float32 (the default), bfloat16, float16."),
    click.option("--device", help="Where PyTorch runs the model: cpu (the default), cuda, cuda:1, mps."),
    options.ignore_key,
)


def executor(command: F) -> F:
    """The options that say what runs a model; the command gets them as `how`."""

    @wraps(command)
    def collected(**options: Any) -> Any:
        how = How(**{field.name: options.pop(field.name) for field in fields(How)})
        return command(how=how, **options)

    return reduce(lambda wrapped, option: option(wrapped), reversed(_EXECUTOR), cast(F, collected))


_GUESSING = (
    click.option(
        "--lookup",
        type=click.IntRange(0, 16),
        default=0,
        show_default=True,
        help="Tokens to guess at a time by what followed the last ones before, while that pays.",
    ),
    click.option(
        "--draft",
        type=click.IntRange(0, 8),
        default=0,
        show_default=True,
        help="Tokens that the model's layers for multi-token prediction guess at a time, while that pays.",
    ),
)


def guessing(command: F) -> F:
    """The options for guesses, which change nothing but the speed."""
    return reduce(lambda wrapped, option: option(wrapped), reversed(_GUESSING), command)


def load(source: str, how: How, draft: bool = False) -> tuple[Runner, Tokenizer]:
    """What runs a model, with its tokenizer, which is looked for first: that takes a moment, and the model may take
    minutes. With `draft` it has its layers for multi-token prediction."""
    native = how.native
    from ..checkpoints.tokenizer import tokenizer

    found = tokenizer(source)
    if draft:
        check_drafts(source, how)
        return load_torch(source, how, draft), found
    runner = load_native(source, how) if native else None
    return runner or load_torch(source, how), found


def check_drafts(source: str, how: How) -> None:
    """Raises InputError where a model cannot draft."""
    from ..checkpoints.checkpoint import Checkpoint

    spec = Checkpoint.open(source, how.ignore).spec
    if not spec.mtp:
        raise InputError(f"{spec.name} has no layers for multi-token prediction, which --draft needs; try --lookup")
    if how.must:
        raise InputError("the native engine does not draft yet: leave --draft out, or give --engine torch")
    if how.native:
        click.echo("the native engine does not draft yet; PyTorch goes on", err=True)


def load_native(source: str, how: How) -> Runner | None:
    """The native engine; None, after a line that says why, where PyTorch must go on. Raises InputError where only the
    native engine will do."""
    from ..errors import NotLoweredError
    from ..inference.native import engine
    from ..native.library import MISSING, library

    if library() is None and not how.must:
        click.echo(f"the native engine is {MISSING}; PyTorch goes on", err=True)
        return None
    try:
        return engine(source, how.weights or "as-is", how.threads, ignore=how.ignore, progress=shown)
    except NotLoweredError as error:
        if how.must:
            raise InputError(f"{error}; --engine torch runs it") from None
        click.echo(f"{error}; PyTorch goes on", err=True)
        return None


def load_torch(source: str, how: How, draft: bool = False, adapter: str | None = None) -> Runner:
    """The torch model; with an adapter, whose product is added to its matrices."""
    require_torch()
    with waiting("Starting PyTorch"):
        import torch

        from ..inference.torch_runner import TorchRunner
        from ..models import load
    device = how.device or "cpu"
    if how.threads:
        torch.set_num_threads(how.threads)
    model = load(source, how.dtype or "float32", device, ignore=how.ignore, mtp=draft, progress=shown)
    if adapter is not None:
        from ..nn.adapters import merge_adapters
        from ..tuning import load_adapter

        load_adapter(model, adapter)
        merge_adapters(model)
    return TorchRunner(model)


def require_torch() -> None:
    """Raises InputError where PyTorch is not installed."""
    if find_spec("torch") is None:
        raise InputError("running a model needs PyTorch, which is not installed: pip install 'vitruvius[torch]'")


def shown(items: Iterable[Any], count: int) -> Iterable[Any]:
    """The tensors of a checkpoint, with a bar on the terminal."""
    if not sys.stderr.isatty():
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, "Loading", count, console=Console(stderr=True), transient=True)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Shows on the terminal what is being waited for."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


def printed(answer: Answer) -> Iterator[str]:
    """The pieces of an answer's text, each printed when it comes; its reasoning goes to stderr, dim."""
    parts = answer.parts()
    with waiting("Reading the prompt"):
        part = next(parts, None)
    reasoning = False
    while part is not None:
        if part.channel == "reasoning":
            click.echo(click.style(part.text, dim=True), nl=False, err=True)
        else:
            if reasoning:
                click.echo("\n", err=True)
            click.echo(part.text, nl=False)  # which flushes
            yield part.text
        reasoning = part.channel == "reasoning"
        part = next(parts, None)
    if reasoning:
        click.echo(err=True)


@contextmanager
def utf8_stdin() -> Iterator[None]:
    """Raises InputError where what is read from stdin is not UTF-8."""
    stdin = sys.stdin
    strict = (stdin.encoding.lower(), stdin.errors) == ("utf-8", "strict")
    if isinstance(stdin, io.TextIOWrapper) and not strict and not stdin.isatty():
        stdin.reconfigure(encoding="utf-8", errors="strict")
    try:
        yield
    except UnicodeDecodeError as error:
        wrong = f"byte 0x{error.object[error.start]:02x}"
        raise InputError(f"the text on stdin is not UTF-8 ({wrong}): convert it, for example with iconv") from None


def speed(answer: Answer, context: int) -> str:
    """How fast it went, in one line, and why it ended where that is not plain."""
    t = answer.timing
    rate = "" if t.decode_rate is None else f" at {t.decode_rate:.1f} tokens/s"
    reused = f", {t.reused} of them remembered" if t.reused else ""
    line = f"{t.tokens} tokens{rate}; the first after {t.first:.2f} s (prompt of {t.prompt} tokens{reused})"
    line += f"; {t.accepted} of {t.guessed} guesses were right" if t.guessed else ""
    ended = {"length": "; stopped at --max-new-tokens", "context": f"; stopped at the context of {context:,} tokens"}
    return line + ended.get(answer.finish or "", "")
