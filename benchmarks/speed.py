"""Prefill and decoding of a model against transformers, in turn, on the same weights: what `vitruvius bench` does.

    python benchmarks/speed.py [MODEL] [--prompt-tokens N] [--new-tokens N] [--turns N] [--threads N] [--json]

MODEL is smollm2-135m-instruct unless given.
"""

from __future__ import annotations

import sys

from vitruvius.cli import main

if __name__ == "__main__":
    given = sys.argv[1:]
    named = bool(given) and not given[0].startswith("-")
    main(["bench", *([] if named else ["smollm2-135m-instruct"]), *given])
