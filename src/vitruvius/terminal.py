"""How wide the terminal is that text is printed in."""

from __future__ import annotations

import os
import shutil
from contextvars import ContextVar

# None where text goes elsewhere: then prose is as wide as `PROSE`, and tables as wide as they need
COLUMNS: ContextVar[int | None] = ContextVar("columns", default=None)
PROSE = 100  # the widest that prose is easily read
NARROWEST = 40


def measure() -> int | None:
    """The columns that COLUMNS says or the terminal has, None where there is none."""
    found = shutil.get_terminal_size(fallback=(0, 0)).columns if "COLUMNS" in os.environ or os.isatty(1) else 0
    return max(found, NARROWEST) if found else None


def prose() -> int:
    """How wide prose may be."""
    return min(COLUMNS.get() or PROSE, PROSE)
