"""The page to chat with, in Chromium, with a model that says what it is told to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

sys.path.insert(0, str(Path(__file__).parent.parent))  # the server for tests stands there
from serving import SMOLLM2, Spoken, offered, running, saying, service

import vitruvius as vt

TOKENIZER = vt.tokenizer(SMOLLM2)
SAID = "<think>Fruit, then.</think>Apples & <b>pears</b>"


@pytest.fixture(params=[[], ["secret"]], ids=["open", "key"])
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    runner = Spoken(saying(TOKENIZER, SAID), 0.01)
    with running(service([offered("spoken", runner, TOKENIZER)], keys=request.param)) as at:
        page, wrong = browser.new_page(), []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(at)
        if request.param:
            expect(page.get_by_role("status")).to_contain_text("needs a key")
            page.get_by_text("Settings", exact=True).click()
            page.get_by_label("Key").fill("secret")
            page.get_by_label("Key").blur()
        expect(page.get_by_label("Model")).to_have_value("spoken")
        yield page
        assert wrong == []
        page.close()


def test_a_conversation(page: Page) -> None:
    field = page.get_by_label("Message", exact=True)
    field.fill("Name fruits.")
    field.press("Enter")
    answer = page.locator("article.assistant")
    expect(answer.locator(".text")).to_contain_text("Apples & <b>pears</b>")
    expect(answer).to_contain_text("remembered")
    field.fill("More.")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("article")).to_have_count(4)
    expect(answer.nth(1)).to_contain_text("remembered")
    assert "0 of" not in answer.nth(1).locator("footer").inner_text()
    page.get_by_role("button", name="Edit").first.click()
    expect(page.locator("article")).to_have_count(0)
    expect(field).to_have_value("Name fruits.")
    field.press("Enter")
    expect(answer).to_contain_text("remembered")
    page.get_by_role("button", name="New").click()
    expect(page.locator("article")).to_have_count(0)


def test_an_answer_is_stopped(browser: Browser) -> None:
    runner = Spoken(lambda ids: 5000 + len(ids) % 100, 0.02)
    made = service([offered("spoken", runner, TOKENIZER)])
    with running(made) as at:
        page = browser.new_page()
        page.goto(at)
        page.get_by_label("Message", exact=True).fill("Go on.")
        page.get_by_role("button", name="Send").click()
        expect(page.locator("article.assistant .text")).not_to_be_empty()
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("article.assistant")).to_contain_text("stopped")
        page.wait_for_timeout(300)
        assert made.models.open == 0
        page.close()
