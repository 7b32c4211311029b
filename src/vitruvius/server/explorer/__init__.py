"""The explorer: its data, its pages served on this machine, and the same as static files."""

from __future__ import annotations
