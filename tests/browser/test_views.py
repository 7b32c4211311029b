"""Each view in a real browser: it opens without a word in the console, and its controls do what they should."""

from __future__ import annotations

import re
from itertools import combinations
from math import dist
from xml.etree import ElementTree

import pytest
from playwright.sync_api import expect

from vitruvius import architecture, catalog, cost
from vitruvius.views.diff import compare, properties

from .conftest import DESKTOP, PHONE, Open

SVG = "http://www.w3.org/2000/svg"
PAIR = "gemma-3-1b,gemma-3-4b"
VIEWS = {
    "": "Open LLM architectures",
    "#/timeline": "Timeline",
    "#/lineage": "Lineage",
    f"#/compare/{PAIR}": "Compare",
    "#/fit/gemma-3-1b": "Will it fit, and how fast?",
    "#/yours": "Your model",
    "#/try": "Try",
    "#/model/gemma-3-1b": "Gemma 3 1B",
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("place", VIEWS)
def test_each_view_opens_and_is_as_wide_as_the_window(
    visit: Open, place: str, viewport: dict[str, int], scheme: str
) -> None:
    page = visit(place, viewport=viewport, color_scheme=scheme)
    expect(page.get_by_role("heading", level=1)).to_have_text(VIEWS[place])
    if "compare" in place:
        expect(page.locator(".chart svg.marks")).to_have_count(5)
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (min(map(int, re.findall(r"\d+", ground))) > 200) == (scheme == "light")


def test_what_is_loaded_before_interaction(visit: Open) -> None:
    page = visit()
    page.wait_for_load_state("networkidle")
    loaded = page.evaluate(
        "performance.getEntriesByType('resource').map((e) => [e.name.split('/').at(-1), e.decodedBodySize])"
    )
    assert 100_000 < sum(size for _, size in loaded) < 1_000_000
    assert not [name for name, _ in loaded if "vega" in name or name == "devices.json"]


# ------------------------------------------------------------------ the wall


def test_the_wall_shows_every_model_and_sorts_them(visit: Open) -> None:
    page = visit("#/?sort=-parameters")
    names = page.locator(".card h2")
    expect(names).to_have_count(len(catalog.entries()))
    sizes = {entry.name: cost(architecture(entry.id)).parameters.total for entry in catalog.entries()}
    shown = [sizes[name] for name in names.all_text_contents()]
    assert shown == sorted(sizes.values(), reverse=True)
    page.get_by_label("Sort").select_option("state_per_token")
    expect(names.first).to_have_text(re.compile("Nemotron 3"))
    expect(page).to_have_url(re.compile("sort=state_per_token"))


def test_the_wall_searches_filters_and_clears(visit: Open) -> None:
    page = visit()
    cards = page.locator(".card")
    page.keyboard.press("/")
    page.keyboard.type("mla deepseek")
    expect(page.get_by_role("status")).to_have_text(re.compile(r"^\d of \d+ models$"))
    page.get_by_label("Search models").fill("")
    page.get_by_label(re.compile("^hybrid MoE")).check()
    page.get_by_label(re.compile("^Mamba-2")).check()
    kinds = cards.locator(".tags").all_text_contents()
    assert kinds
    assert all("hybrid MoE" in kind and "Mamba-2" in kind for kind in kinds)
    expect(page).to_have_url(re.compile(r"kind=hybrid\+MoE&attention=Mamba-2"))
    page.get_by_label("Active parameters, at most").fill("0")
    page.get_by_role("button", name="Clear the filters").click()
    expect(cards).to_have_count(len(catalog.entries()))


def test_a_range_leaves_out_what_lies_outside(visit: Open) -> None:
    page = visit("#/?parameters=1e9..8e9&sort=parameters")
    expected = [e.name for e in catalog.entries() if 1e9 <= cost(architecture(e.id)).parameters.total <= 8e9]
    assert sorted(page.locator(".card h2").all_text_contents()) == sorted(expected)


def test_a_deep_link_restores_the_wall_and_picked_models_are_compared(visit: Open) -> None:
    page = visit("#/?q=gemma&kind=dense&pick=gemma-3-1b")
    expect(page.get_by_label("Search models")).to_have_value("gemma")
    expect(page.get_by_label("Compare Gemma 3 1B")).to_be_checked()
    page.get_by_label("Compare Gemma 3 4B").check()
    page.get_by_role("link", name="Compare 2").click()
    expect(page.locator(".chip")).to_have_text(["Gemma 3 1B", "Gemma 3 4B"])
    page.go_back()
    expect(page.get_by_label("Compare Gemma 3 4B")).to_be_checked()


def test_the_theme_is_switched_and_remembered(visit: Open) -> None:
    page = visit()
    page.get_by_role("button", name="Switch to the dark theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.get_by_role("button", name="Switch to the light theme")).to_be_visible()


# ------------------------------------------------------------------ one architecture


def test_pointing_at_a_part_tells_about_it(visit: Open) -> None:
    page = visit("#/model/gemma-3-1b")
    about = page.get_by_label("About the part")
    page.locator('g[data-path="layers.0.mixer.body"][tabindex]').hover()
    expect(about).to_contain_text("W_o softmax(q kᵀ / √256) v")
    expect(about).to_contain_text("arXiv 1706.03762")
    expect(about.get_by_role("row", name="q.weight")).to_contain_text("1,024 × 1,152")
    page.locator('g[data-path="layers.0.mlp.body"][tabindex]').hover()
    expect(about).to_contain_text("W_down")


def test_parts_are_reached_and_kept_by_keyboard(visit: Open) -> None:
    page = visit("#/model/gemma-3-1b")
    page.locator('.drawing-frame [tabindex="0"]').focus()
    expect(page.get_by_label("About the part").get_by_role("heading")).to_be_visible()
    path = page.evaluate("document.activeElement.dataset.path")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(re.escape(f"part={path}")))
    page.keyboard.press("Escape")
    expect(page).not_to_have_url(re.compile("part="))
    before = page.locator(".drawing-frame > svg").bounding_box()
    page.keyboard.press("+")
    after = page.locator(".drawing-frame > svg").bounding_box()
    assert before
    assert after
    assert after["width"] == pytest.approx(1.3 * before["width"], rel=0.01)


def test_a_table_and_a_drawing_are_copied(visit: Open) -> None:
    page = visit("#/model/gemma-3-1b", permissions=["clipboard-read", "clipboard-write"])

    def copied(name: str) -> str:
        button = page.get_by_role("button", name=re.compile(name)).first
        button.click()
        expect(button).to_contain_text("copied")
        return str(page.evaluate("navigator.clipboard.readText()"))

    total = cost(architecture("gemma-3-1b")).parameters.total
    assert re.search(rf"^total,{total},", copied("parts as CSV"), re.MULTILINE)
    assert copied("memory as Markdown").startswith("| Held | Bytes |")
    svg = ElementTree.fromstring(copied("Copy SVG of the drawing of Gemma 3 1B"))
    assert "GeGLU feed-forward" in {text.text for text in svg.iter(f"{{{SVG}}}text")}
    shapes = [*svg.iter(f"{{{SVG}}}rect"), *svg.iter(f"{{{SVG}}}text")]
    assert all(shape.get("fill", "").startswith(("rgb", "none")) and "class" not in shape.attrib for shape in shapes)
    assert "@font-face" in (svg.find(f"{{{SVG}}}style").text or "")  # type: ignore[union-attr]
    copied("Copy PNG of the drawing of Gemma 3 1B")
    assert page.evaluate("navigator.clipboard.read().then((items) => items[0].types)") == ["image/png"]


def test_keyboard_users_can_skip_to_the_content(visit: Open) -> None:
    page = visit("#/timeline")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


def test_an_unknown_model_is_one_line(visit: Open) -> None:
    page = visit("#/model/..%2F..%2Fetc")
    expect(page.get_by_role("alert")).to_have_text("There is no architecture “../../etc” here.")


# ------------------------------------------------------------------ compare, timeline, lineage


def test_differences_are_in_the_table_and_in_the_drawings(visit: Open) -> None:
    page = visit(f"#/compare/{PAIR}")
    table = page.get_by_label("differences").get_by_role("row")
    expect(page.get_by_role("row", name=re.compile("model · width"))).to_contain_text("2,560")
    differing = table.count()
    difference = compare(architecture("gemma-3-1b"), architecture("gemma-3-4b"))
    heads = "layers.0.mixer.body"
    assert any(path.startswith(heads) for path in difference.paths_a)
    marks = page.locator(f'g[data-path="{heads}"] > :is(.detail, .whole)')
    assert marks.count() >= 2
    expect(page.locator('g[data-path="layers.0.mixer.pre"] > :is(.detail, .whole)')).to_have_count(0)
    page.get_by_label("also what is equal").check()
    expect(table.nth(differing)).to_be_visible()
    expect(page).to_have_url(re.compile("all=1"))


def test_where_norms_stand_is_marked_and_long_values_are_folded(visit: Open) -> None:
    page = visit("#/compare/gemma-3-1b,nemotron-3-nano-30b-a3b")
    expect(page.get_by_role("row", name=re.compile("mixer · norms"))).to_contain_text("before and after each branch")
    assert page.locator('g[data-path="layers.0.mixer.post"] > :is(.detail, .whole)').count() >= 1
    folded = page.locator(".comparison details.long").first
    expect(folded.locator("summary")).to_have_text(re.compile("…$"))
    folded.locator("summary").click()
    order = next(row.value for row in properties(architecture("nemotron-3-nano-30b-a3b")) if row.label == "mixer")
    expect(folded).to_contain_text(str(order))


def test_charts_take_as_many_devices_as_hold_all(visit: Open) -> None:
    page = visit("#/compare/gemma-3-1b,nemotron-3-nano-30b-a3b")
    many = page.get_by_label(re.compile("^How many"))
    expect(many).to_have_value("1")
    page.get_by_label(re.compile("^Device")).select_option("l4")
    expect(many).to_have_value("4")
    many.select_option("2")
    expect(page).to_have_url(re.compile("devices=2"))


def test_models_are_added_and_left_out(visit: Open) -> None:
    page = visit(f"#/compare/{PAIR}?context=4096")
    page.get_by_label("Add a model").select_option("gemma-3-270m")
    expect(page.locator(".drawings > div")).to_have_count(3)
    expect(page).to_have_url(re.compile(r"compare/gemma-3-1b,gemma-3-4b,gemma-3-270m\?context=4096"))
    page.get_by_role("button", name="Leave out Gemma 3 1B").click()
    expect(page.locator(".drawings > div")).to_have_count(2)


def test_charts_follow_the_policies(visit: Open) -> None:
    page = visit(f"#/compare/{PAIR}")
    lines = page.locator(".chart").first.locator("g.mark-line path[aria-label]")
    expect(lines).to_have_count(2)
    page.get_by_label("Policies").get_by_role("button", name="transformers").click()
    expect(lines).to_have_count(4)


def test_points_of_the_timeline_are_links(visit: Open) -> None:
    page = visit("#/timeline?y=active&family=Gemma 3")
    dated = [e for e in catalog.entries() if e.family == "Gemma 3" and e.released]
    expect(page.locator("a.point")).to_have_count(len(dated))
    page.get_by_role("link", name=re.compile("Gemma 3 270M, Aug 2025")).focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("#/model/gemma-3-270m"))


def test_no_point_of_the_timeline_hides_another(visit: Open) -> None:
    page = visit("#/timeline?since=2019")
    page.wait_for_selector(".point circle")
    points = page.evaluate(
        "[...document.querySelectorAll('.point circle')].map((c) => [c.cx.baseVal.value, c.cy.baseVal.value])"
    )
    assert len(points) > 100
    assert min(dist(a, b) for a, b in combinations(points, 2)) > 10


def test_the_lineage_has_a_row_for_each_model_and_tells_what_changed(visit: Open) -> None:
    page = visit("#/lineage")
    expect(page.locator(".lineage-rows li")).to_have_count(len(catalog.entries()))
    page.get_by_role("button", name="after deepseek-v3", exact=False).filter(has_text="attention sees").click()
    change = page.get_by_label("What changed")
    expect(change.get_by_role("heading")).to_have_text("DeepSeek-V3 671B → DeepSeek-V3.2 (DSA)")
    expect(change.get_by_role("row", name=re.compile("^attention sees"))).to_contain_text("2,048")
    expect(page).to_have_url(re.compile("edge=deepseek-v3.2"))
