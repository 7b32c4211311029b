"""What an architecture looks like, in text and as a picture, and how it differs from another: walks over the spec."""

from __future__ import annotations

from .diff import Change, Difference, compare
from .text import tree

__all__ = ["Change", "Difference", "compare", "tree"]
