"""Drawings in the page: legible at once, walked through by keyboard, zoomed at the pointer, over the whole screen."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from .conftest import PHONE, Open

LAPTOP = {"width": 1440, "height": 900}
SIZES = """() => [...document.querySelectorAll(".drawing-frame svg text")].map(
  (text) => Number(text.getAttribute("font-size")) * text.getScreenCTM().a)"""


@pytest.mark.parametrize(
    "name", ["gemma-3n-e2b", "switch-base-8", "glm-5.2", "nemotron-3-nano-30b-a3b", "mimo-v2-flash", "gpt2"]
)
def test_no_text_is_below_11_px_at_first(visit: Open, name: str) -> None:
    page = visit(f"#/model/{name}", viewport=LAPTOP)
    page.wait_for_selector(".drawing-frame svg")
    sizes = page.evaluate(SIZES)
    assert len(sizes) > 40
    assert min(sizes) > 10.99  # as far as a browser's floats go
    assert page.evaluate("document.documentElement.scrollWidth") == LAPTOP["width"]


def test_one_tab_stop_and_arrow_keys(visit: Open) -> None:
    page = visit("#/model/llama-3-8b", viewport=LAPTOP)
    page.wait_for_selector(".drawing-frame svg")
    assert page.locator('.drawing-frame [tabindex="0"]').count() == 1
    page.locator('.drawing-frame g[data-path="head"][tabindex]').focus()
    places = []
    for key in ("ArrowDown", "ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
        places.append(page.evaluate("document.activeElement.dataset.path"))
    assert places[0] == "final_norm"
    assert len(set(places)) == 3
    assert page.locator('.drawing-frame [tabindex="0"]').count() == 1
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(page.locator(".inspector.kept")).to_be_visible()
    page.keyboard.press("Tab")
    assert not page.evaluate("document.activeElement.closest('.drawing-frame')")


def test_zoom_keeps_what_is_below_the_pointer(visit: Open) -> None:
    page = visit("#/model/llama-3-8b", viewport=LAPTOP)
    box = page.locator('.drawing-frame g[data-path="layers.0.mlp.body"] rect').first.bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.keyboard.down("Control")
    for _ in range(4):
        page.mouse.wheel(0, -100)
        page.wait_for_timeout(60)
    page.keyboard.up("Control")
    path = page.evaluate("([x, y]) => document.elementFromPoint(x, y).closest('g[data-path]')?.dataset.path", [x, y])
    larger = page.locator('.drawing-frame g[data-path="layers.0.mlp.body"] rect').first.bounding_box()
    assert larger
    assert larger["width"] > 1.5 * box["width"]
    assert path == "layers.0.mlp.body"


def test_full_screen_is_the_whole_screen(visit: Open) -> None:
    page = visit("#/model/llama-3-8b", viewport=LAPTOP)
    page.get_by_role("button", name="Full screen").click()
    page.wait_for_timeout(300)
    box = page.locator(".drawing").bounding_box()
    assert box == {"x": 0, "y": 0, **LAPTOP}
    page.get_by_role("button", name="Leave full screen").click()
    page.wait_for_timeout(300)
    again = page.locator(".drawing").bounding_box()
    assert again
    assert again["x"] > 0


def test_back_returns_to_the_place(visit: Open) -> None:
    page = visit("", viewport=LAPTOP)
    page.wait_for_selector(".cards")
    page.evaluate("scrollTo(0, 2400)")
    page.wait_for_timeout(200)
    page.locator(".card-link").nth(24).click()
    page.wait_for_selector("article h1")
    assert page.evaluate("scrollY") == 0
    page.go_back()
    page.wait_for_selector(".cards")
    page.wait_for_function("scrollY > 2300", timeout=5000)


def test_on_a_phone_what_is_chosen_is_told_in_a_sheet(visit: Open) -> None:
    page = visit("#/model/llama-3-8b", viewport=PHONE, has_touch=True)
    page.locator('.drawing-frame g[data-path="layers.0.mixer.body"] rect').first.tap()
    sheet = page.locator(".inspector.kept")
    expect(sheet).to_contain_text("query heads")
    box = sheet.bounding_box()
    assert box
    assert box["y"] + box["height"] == PHONE["height"]
    assert box["height"] <= 0.61 * PHONE["height"]
    page.get_by_role("button", name="Let go of this part").click()
    expect(sheet).to_have_count(0)


@pytest.mark.parametrize("place", ["", "#/model/llama-3-8b", "#/compare"])
def test_nothing_moves_while_it_loads(visit: Open, served: str, place: str) -> None:
    page = visit("", viewport=LAPTOP)
    page.add_init_script(
        "window.moved = 0; new PerformanceObserver((list) => { for (const e of list.getEntries()) moved += e.value; })"
        '.observe({ type: "layout-shift", buffered: true });'
    )
    page.goto("about:blank")
    page.goto(served + place)
    page.wait_for_selector(".cards, .drawing-frame svg")
    page.wait_for_timeout(800)
    assert page.evaluate("moved") < 0.02


def test_what_people_type_is_found_as_on_the_command_line(visit: Open) -> None:
    page = visit("#/?q=multi-query", viewport=LAPTOP)
    expect(page.get_by_role("status").first).to_have_text(re.compile(r"^[1-9]\d? of"))
    names = {text.strip() for text in page.locator(".card h2").all_text_contents()}
    assert "Gemma 3 1B" in names
    assert not names & {"GLM-4.5 (355B-A32B)", "Llama 3 8B"}


def test_a_change_is_drawn_counted_and_told_in_python(visit: Open, served: str) -> None:
    page = visit("#/model/llama-3.2-1b", base=served, viewport=LAPTOP)
    page.get_by_text("Change something").click()
    page.locator(".boxes").get_by_label("key/value heads").select_option("1")
    expect(page.get_by_label("The same in Python")).to_contain_text('"layers.*.mixer.body.kv.heads", 1')
    expect(page.locator(".drawing-frame")).to_contain_text("1 key/value head")
    expect(page.get_by_role("row", name=re.compile("^State per token"))).to_contain_text("× 0.125")
    assert "change=mixer.body.kv_heads" in page.url
    page.locator(".boxes").get_by_label("layers", exact=True).fill("-4")
    expect(page.get_by_role("alert")).to_contain_text("not a whole number from 1 to 256")
    page.get_by_role("button", name="As it was").click()
    expect(page.locator(".drawing-frame")).to_contain_text("8 key/value heads")


def test_each_part_is_explained(visit: Open) -> None:
    page = visit("#/model/deepseek-v3", viewport=LAPTOP)
    expect(page.locator(".news")).to_contain_text("New here")
    part = page.locator(".learn li", has_text="Multi-head latent attention")
    expect(part).to_have_count(1)
    part.locator("summary").first.click()
    expect(part.locator(".symbols")).to_contain_text("the latent that is kept for each token")
    expect(part.locator("pre")).to_contain_text("def forward")
    expect(part.get_by_role("link", name="arXiv 2405.04434")).to_be_visible()
    part.get_by_role("button", name="Show it in the drawing").click()
    expect(page.locator(".inspector.kept")).to_contain_text("Multi-head latent attention")


def test_insides_are_folded_and_unfolded(visit: Open) -> None:
    page = visit("#/model/llama-3-8b", viewport=LAPTOP)
    cards = page.locator('.drawing-frame g[id*=".inside."] > rect.card-attention')
    expect(cards).to_have_count(1)
    page.get_by_role("button", name="Fold the insides").click()
    expect(cards).to_have_count(0)
    expect(page.locator(".drawing-frame")).to_contain_text("Grouped-query attention")
    page.get_by_role("button", name="Show the insides").click()
    expect(cards).to_have_count(1)
