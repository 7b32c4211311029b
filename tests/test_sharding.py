"""How axes may be cut, the plan that follows, and what is exchanged."""

from __future__ import annotations

from typing import Any

import pytest

from vitruvius.spec import CUTS, Axis

# ------------------------------------------------------------------ axes


def test_an_axis_says_how_it_may_be_cut() -> None:
    axis: Any = Axis
    with pytest.raises(TypeError, match="cut"):
        axis("heads", 32, 128)
    with pytest.raises(ValueError, match=r"axis .heads. must say how it is cut, one of heads"):
        axis("heads", 32, 128, cut="sometimes")
    assert {axis("x", 3, 2, cut=cut).size for cut in CUTS} == {6}
