"""The one exception that means: the input cannot be used, and this line says why and what to do."""

from __future__ import annotations


class InputError(ValueError):
    """Unusable input; the message is one line: what was wrong, the value, what to do. The command line exits with 2."""
