"""What is published at /openapi.json is what the server does."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from jsonschema import Draft202012Validator
from serving import SMOLLM2, Spoken, offered, running, service
from starlette.routing import Route

import vitruvius as vt
from vitruvius.server.api.errors import RefusedError
from vitruvius.server.api.listing import listed, phrase
from vitruvius.server.api.openapi import CALLED, document
from vitruvius.server.api.page import FILES

TOKENIZER = vt.tokenizer(SMOLLM2)
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


class Short(Spoken):
    """A model whose context is short, so that no answer takes long."""

    spec = replace(vt.architecture(SMOLLM2), context=96)  # type: ignore[assignment]


@pytest.fixture(scope="module")
def at() -> Iterator[str]:
    runner = Short(lambda ids: 100 + len(ids) if len(ids) % 7 else None)
    with running(service([offered("spoken", runner, TOKENIZER)])) as address:
        yield address


def test_every_endpoint_is_described(at: str) -> None:
    found = httpx2.get(f"{at}/openapi.json").json()
    made = service([offered("spoken", Spoken(lambda ids: None), TOKENIZER)])
    routes = {
        (re.sub(r":path", "", route.path), method.lower())
        for route in made._starlette.routes
        if isinstance(route, Route) and route.path not in FILES
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert {(path, method) for path, each in found["paths"].items() for method in each} == routes
    assert found == document(keys=False)
    assert document(keys=True)["security"] == [{"key": []}]


@pytest.mark.parametrize("path", CALLED)
def test_a_schema_is_one(path: str) -> None:
    Draft202012Validator.check_schema(CALLED[path].body.schema())


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"prompt": "a"},
        {"prompt": ["a", "b"]},
        {"prompt": [1, 2.0]},
        {"prompt": [[1], [2]]},
        {"prompt": []},
        {"prompt": [1, "a"]},
        {"prompt": "a", "temperature": None},
        {"prompt": "a", "temperature": 101},
        {"prompt": "a", "temperature": True},
        {"prompt": "a", "frobnicate": None},
        {"prompt": "a", "frobnicate": 1},
        {"prompt": "a", "stop": ["a", ""]},
        {"prompt": "a", "logit_bias": {"12": 3}},
        {"prompt": "a", "logit_bias": {"twelve": 3}},
        {"prompt": "a", "stream_options": {"include_usage": True}},
        {"prompt": "a", "stream_options": {"usage": True}},
        {"prompt": "a", "best_of": 1},
        {"prompt": "a", "best_of": 2},
        {"prompt": "a", "repetition_penalty": 0},
        [],
        None,
    ],
    ids=str,
)
def test_what_is_read_is_what_the_schema_allows(value: Any) -> None:
    body = CALLED["/v1/completions"].body
    try:
        body.read(value, "")
        taken = True
    except RefusedError:
        taken = False
    assert taken == Draft202012Validator(body.schema()).is_valid(value)


def test_fields_are_listed_with_what_they_do() -> None:
    chat = dict(listed(CALLED["/v1/chat/completions"].body))
    assert chat["messages"].required
    assert chat["user"].effect == chat["messages[].content[].cache_control"].effect == "accepted"
    assert chat["messages[].tool_calls[].function.arguments"].effect == "honoured"
    assert phrase(chat["temperature"].kind.schema()) == "number from 0 to 100"
    assert phrase(chat["stop"].kind.schema()) == "text or list of text"
    assert phrase(chat["seed"].kind.schema()) == "whole number from −2⁶³"


def judged(at: str, folder: Path, examples: int, *more: str) -> None:
    """What schemathesis says of the server."""
    config = Path(__file__).parent / "schemathesis.toml"
    asked = ["--config-file", str(config), "run", f"{at}/openapi.json", "-n", str(examples)]
    asked += ["--seed", "1", "--no-color", *more]
    found = subprocess.run(
        [SCHEMATHESIS, *asked], capture_output=True, text=True, timeout=1800, check=False, cwd=folder
    )
    assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]


def test_schemathesis_finds_nothing_in_a_few_requests(at: str, tmp_path: Path) -> None:
    judged(at, tmp_path, 3, "--phases", "fuzzing")


@pytest.mark.slow
@pytest.mark.parametrize("path", document(keys=False)["paths"])
def test_schemathesis_finds_nothing(at: str, path: str, tmp_path: Path) -> None:
    judged(at, tmp_path, 200, "--phases", "examples,coverage,fuzzing", "--include-path", path)


def test_the_page_to_chat_with(at: str) -> None:
    page = httpx2.get(f"{at}/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for name in re.findall(r'(?:href|src)="([^"]+)"', page.text):
        assert httpx2.get(f"{at}/{name}").status_code == 200
