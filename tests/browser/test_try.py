"""Trying a model, with a server that answers as `explorer.try_` does (its own answers are tested in test_explore)."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from .conftest import Open

WORDS = ((" Paris", 0.75), ("<b>", 0.25))
ATTENTION = [[1.0, 0.0], [0.36, 0.64]]
LOOK = {
    "tokens": [{"id": 1, "text": "a"}, {"id": 2, "text": "b"}],
    "attentions": [{"path": "layers.0.mixer.body", "heads": 3}],
    "routers": [{"path": "layers.0.mlp.body.router", "experts": 8, "active": 2}],
}


def events() -> str:
    told: list[tuple[str, Any]] = [
        ("token", {"id": i, "text": word, "probability": sure, "top": [{"id": i, "text": word, "probability": sure}]})
        for i, (word, sure) in enumerate(WORDS)
    ]
    return "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in (*told, ("done", DONE)))


DONE = {"tokens": 2, "seconds": 0.5}
ANSWERS: dict[str, Any] = {
    "try": {"available": True, "why": None, "models": [{"id": "tiny"}]},
    "look": LOOK,
    "attention": {"tokens": ["a", "b"], "weights": ATTENTION},
    "router": {"tokens": ["a", "b"], "experts": [[5, 2], [7, 0]], "weights": [[0.9, 0.1], [0.6, 0.4]]},
}


@pytest.fixture
def page(visit: Open, served: str) -> Page:
    def answer(route: Route) -> None:
        name = route.request.url.rpartition("/")[2]
        if name == "generate":
            route.fulfill(content_type="text/event-stream", body=events())
        else:
            route.fulfill(json=ANSWERS[name])

    opened = visit("#/yours", served)
    opened.route("**/api/try**", answer)
    opened.route("**/api/try/*", answer)
    opened.get_by_role("navigation").get_by_role("link", name="Try").click()
    return opened


def test_text_comes_with_probabilities_and_as_text(page: Page) -> None:
    page.get_by_role("button", name="Write on").click()
    tokens = page.locator(".token")
    expect(tokens).to_have_text(["Paris", "<b>"])
    expect(page.get_by_text("2 tokens, 4.00 a second")).to_be_visible()
    tokens.last.click()
    expect(page.get_by_role("table")).to_contain_text("25 %")
    assert [page.evaluate("(e) => e.style.getPropertyValue('--sure')", each) for each in tokens.element_handles()] == [
        "0.75",
        "0.25",
    ]


def test_attention_and_experts_are_shown(page: Page) -> None:
    page.get_by_role("button", name="Look at this text").click()
    cells = page.locator(".pattern rect")
    expect(cells).to_have_count(3)
    assert [float(each.get_attribute("fill-opacity") or 0) for each in cells.all()] == pytest.approx([1, 0.6, 0.8])
    cells.last.hover()
    expect(page.get_by_text('"b" looks at "b": 64 %')).to_be_visible()
    page.get_by_label(re.compile("^Router")).select_option("layers.0.mlp.body.router")
    expect(page.get_by_role("row", name=re.compile("5 \\(90 %\\), 2 \\(10 %\\)"))).to_be_visible()
