"""A template rendered in a process of its own that may only use so much memory: what goes wrong there ends only it."""

from __future__ import annotations

import multiprocessing
import resource
import time
import tracemalloc
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from vitruvius.checkpoints import templates
from vitruvius.checkpoints.templates import allowance
from vitruvius.errors import InputError

MEMORY, SECONDS = 2 << 30, 60  # bytes of addresses, libraries included


class Outcome(NamedTuple):
    """The problem that was told (or another error's name), with the seconds and the bytes that it took."""

    problem: str
    seconds: float
    peak: int


def outcome(template: str, messages: list[dict[str, Any]], share: int) -> Outcome:
    """What comes of a template, with a `share` of the work and the text that are allowed otherwise."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    ours, theirs = context.Pipe()
    process = context.Process(target=_render, args=(theirs, template, messages, share))
    process.start()
    theirs.close()
    try:
        assert ours.poll(SECONDS), f"no end within {SECONDS} s"
        return ours.recv()
    except EOFError:
        process.join()
        return Outcome(f"the process ended with {process.exitcode}", 0.0, 0)
    finally:
        process.kill()
        process.join()


def _render(pipe: Connection, template: str, messages: list[dict[str, Any]], share: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    allowance.ALLOWANCE //= share
    allowance.LONGEST_TEXT //= share
    tracemalloc.start()
    start, problem = time.process_time(), "none"
    try:
        templates.render(template, messages)
    except InputError as error:
        problem = str(error)
    except Exception as error:  # whatever it is, the test is told
        problem = repr(error)
    pipe.send(Outcome(problem, time.process_time() - start, tracemalloc.get_traced_memory()[1]))
