"""Hostile inputs for the native engine, each known by its number: plans, steps, packing, files. See tests/fuzz.py."""

from vitruvius.errors import InputError


def one_line(error: InputError) -> None:
    """What every refusal says."""
    assert str(error)
    assert "\n" not in str(error)
