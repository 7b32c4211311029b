"""The exceptions that mean: the input cannot be used, and this line says why and what to do."""

from __future__ import annotations

from collections.abc import Iterable


class InputError(ValueError):
    """Unusable input; the message is one line: what was wrong, the value, what to do. The command line exits with 2."""


class UnknownKeysError(InputError):
    """Something in the input would have to be ignored: `keys`."""

    def __init__(self, message: str, keys: Iterable[str]) -> None:
        super().__init__(message)
        self.keys = tuple(keys)


class InputWarning(UserWarning):
    """Something in the input is probably not meant; the message is one line. The command line prints it on stderr."""


class NotLoweredError(InputError):
    """A part of the architecture, which the message names, has no native form: PyTorch can run it."""
