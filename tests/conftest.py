"""Options and fixtures that several test files share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vitruvius.terminal import COLUMNS

os.environ.pop("COLUMNS", None)  # which pytest-xdist says for its own sake

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew instead of comparing")


@pytest.fixture(autouse=True)
def _no_terminal() -> None:
    """What is printed does not depend on where the tests run, nor on the verb that an earlier test has called."""
    COLUMNS.set(None)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compares a text with the file of that name in tests/golden/, or writes it there with --update-golden."""

    def check(name: str, text: str) -> None:
        file = GOLDEN / name
        if request.config.getoption("--update-golden"):
            file.write_text(text, "utf-8")
        assert file.exists(), f"{file} is missing: run pytest --update-golden and read what it wrote"
        assert text == file.read_text("utf-8"), f"{name} changed: read the difference, then run pytest --update-golden"

    return check
