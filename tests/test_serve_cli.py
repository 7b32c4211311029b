"""`vitruvius serve` as a process: it starts, answers, and lets what is at work finish when it is told to stop."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest
from serving import SMOLLM2

PROGRAM = [sys.executable, "-c", "from vitruvius.cli import main; main()", "serve"]


@contextmanager
def process(*args: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server, and its address as it tells it."""
    with subprocess.Popen([*PROGRAM, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as made:
        try:
            assert made.stderr
            last = next((line for line in made.stderr if "serving at" in line), "")
            yield made, last.partition("serving at ")[2].partition("/v1,")[0]
        finally:
            made.kill()


def test_it_starts_answers_and_drains() -> None:
    with process(SMOLLM2, "--weights", "q8", "--port", "0", "--threads", "1") as (made, at):
        assert httpx2.get(f"{at}/v1/models").json()["data"][0]["id"] == SMOLLM2
        asked = {
            "prompt": "The capital of France is",
            "max_tokens": 60,
            "ignore_eos": True,
            "stream": True,
            "temperature": 0,
        }
        with httpx2.stream("POST", f"{at}/v1/completions", json=asked, timeout=60) as answer:
            lines = (line.removeprefix("data: ") for line in answer.iter_lines() if line)
            pieces = [next(lines)]
            made.send_signal(signal.SIGTERM)
            pieces += lines
        assert pieces.pop() == "[DONE]"
        told = [json.loads(piece)["choices"][0] for piece in pieces]
        assert told[-1]["finish_reason"] == "length"
        assert "".join(each["text"] for each in told).startswith(" Paris")
        assert made.wait(20) == 0
        assert made.stderr
        assert made.stderr.read() == ""
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{at}/health")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["no-such-model"], "no-such-model"),
        ([SMOLLM2, "--memory", "lots"], "memory is given as 8G"),
        ([SMOLLM2, "--memory", "1M"], "for its weights, and there are 1.0 MiB"),
        ([SMOLLM2, SMOLLM2], "two models have the same name"),
        ([SMOLLM2, "--host", "203.0.113.9"], "cannot listen on 203.0.113.9 port 8000"),
        ([SMOLLM2, "--weights", "q8", "--engine", "torch"], "--weights q8 is for the native engine"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_told_in_one_line(args: list[str], said: str) -> None:
    refused(args, said)


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused([SMOLLM2, "--port", port], f"cannot listen on 127.0.0.1 port {port} (Address already in use)")


def refused(args: list[str], said: str) -> None:
    found = subprocess.run([*PROGRAM, *args], capture_output=True, text=True, timeout=60, check=False)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.count("\n") == 1, found.stderr
    assert said in found.stderr
