"""How much memory there is for weights and states."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ...errors import InputError

SHARE = 0.8  # of what is free when the server starts
UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
CGROUP = Path("/sys/fs/cgroup/memory.max")


def parsed(text: str) -> int:
    """Bytes from a text: 8G, 512M, 1.5 GiB. Raises InputError for any other."""
    found = re.fullmatch(r"\s*(\d{1,12}(?:\.\d{1,6})?)\s*([kmgt]?)(?:i?b)?\s*", text, re.IGNORECASE)
    if not found or not float(found[1]):
        raise InputError(f"memory is given as 8G or 512M (units of 1,024), not {text!r}")
    return int(float(found[1]) * 2 ** UNITS[found[2].casefold()])


def free() -> int:
    """Bytes that new programs can have, as the system says, and within the limit of a container."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text("utf-8"), re.MULTILINE)
        there = min(there, int(found[1]) * 1024) if found else there
        limit = CGROUP.read_text("utf-8").strip()
        return min(there, int(limit)) if limit.isdecimal() else there
    except OSError:  # not Linux, or not in a container
        return there


def shown(size: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
