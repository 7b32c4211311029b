"""Nouns of other packages: what they say is checked like our own, and they are saved, run and lowered.

This file writes types as types: it is without `from __future__ import annotations`, as other packages may be.
"""

from dataclasses import dataclass
from math import inf, nan
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import vitruvius as vt
from vitruvius import spec
from vitruvius.spec import Size, Spec

# ------------------------------------------------------------------ checks read types, not their text


@dataclass(frozen=True, kw_only=True)
class Pooling(Spec):
    """A part as another package may write it."""

    size: Size
    factor: float
    stride: Size | None = None
    cap: float | None = None
    words: str | None = None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 0}, "Pooling.size must be a positive integer, got 0"),
        ({"size": True}, "Pooling.size must be a positive integer, got True"),
        ({"size": None}, "Pooling.size must be a positive integer, got None"),
        ({"factor": nan}, "Pooling.factor must be a finite number, got nan"),
        ({"factor": "1"}, "Pooling.factor must be a finite number, got '1'"),
        ({"stride": -1}, "Pooling.stride must be a positive integer, got -1"),
        ({"cap": inf}, "Pooling.cap must be a finite number, got inf"),
    ],
)
def test_a_class_without_the_future_import_is_checked(given: dict[str, Any], message: str) -> None:
    assert Pooling(size=2, factor=1).cap is None
    with pytest.raises(ValueError, match=message):
        Pooling(**{"size": 2, "factor": 1.0, **given})


def test_what_must_be_there_is_asked_for() -> None:
    with pytest.raises(ValueError, match=r"Branch\.body must be given, got None"):
        spec.Branch(name="mixer", body=None)


def test_types_that_cannot_be_read_are_named() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Lost(Spec):
        size: "Nowhere"  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(TypeError, match="the types of Lost's fields cannot be read: name 'Nowhere' is not defined"):
        Lost(size=1)


# ------------------------------------------------------------------ what the package shows


def test_the_vocabulary_is_public_and_holds_no_modules() -> None:
    names: dict[str, Any] = {}
    exec("from vitruvius.spec import *", names)
    del names["__builtins__"]
    assert sorted(names) == sorted(spec.__all__)
    assert not [name for name, value in names.items() if isinstance(value, ModuleType)]
    assert len(names) > 100
    kinds = {name for name, value in vars(spec).items() if isinstance(value, type)}
    assert kinds <= set(spec.__all__), "nothing public is left out"


def test_the_package_has_types() -> None:
    assert (Path(vt.__file__).parent / "py.typed").exists()
