"""What axe-core finds in each view: nothing serious, light or dark."""

from __future__ import annotations

from importlib import resources
from typing import Any

import pytest

from .conftest import Open

AXE = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
SERIOUS = """axe.run(document, { resultTypes: ["violations"] }).then((found) => found.violations
  .filter(({ impact }) => impact === "serious" || impact === "critical")
  .map(({ id, nodes }) => [id, nodes.length, nodes[0].html.slice(0, 200)]))"""
PLACES = (
    "",
    "#/timeline",
    "#/lineage",
    "#/compare",
    "#/fit/llama-3-8b",
    "#/yours",
    "#/try",
    "#/model/deepseek-v3?part=layers.3.mlp.body",
    "#/model/gemma-3-1b?change=layers~zz",
)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("place", PLACES)
def test_axe_finds_nothing_serious(visit: Open, served: str, place: str, theme: Any) -> None:
    page = visit(place, served, color_scheme=theme, reduced_motion="reduce")
    page.wait_for_load_state("networkidle")
    page.evaluate(AXE)
    assert page.evaluate(SERIOUS) == []


def test_axe_finds_what_is_wrong(visit: Open, served: str) -> None:
    page = visit("", served)
    page.evaluate("document.querySelector('main').innerHTML = '<img src=icon.svg><button></button>'")
    page.evaluate(AXE)
    assert {rule for rule, *_ in page.evaluate(SERIOUS)} >= {"image-alt", "button-name"}
