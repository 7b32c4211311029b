"""What is dropped on the page, and what others write into names."""

from __future__ import annotations

import json
import struct

from playwright.sync_api import Request, Route, expect

from vitruvius import catalog

from .conftest import Open

HOSTILE = '<img src=x onerror="window.broken=1">'


def config(**changes: object) -> bytes:
    return json.dumps({**catalog.entry("gemma-3-1b").config, **changes}).encode()


def test_a_config_becomes_a_page_that_is_compared_and_fitted(visit: Open, served: str) -> None:
    page = visit("#/yours", served)
    file = {
        "name": "mine.json",
        "mimeType": "application/json",
        "buffer": config(num_hidden_layers=12, layer_types=None),
    }
    page.get_by_label("A config.json").set_input_files([file])  # type: ignore[list-item]
    expect(page.get_by_role("heading", level=1)).to_have_text("mine")
    expect(page.get_by_role("heading", name="12 layers in order")).to_be_visible()
    page.get_by_role("link", name="Will it fit?", exact=True).last.click()
    expect(page.get_by_label("Answer")).to_contain_text("It fits.")
    page.reload()
    expect(page.get_by_label("Answer")).to_contain_text("It fits.")


def test_a_file_is_dropped_with_the_mouse(visit: Open, served: str) -> None:
    page = visit("#/yours", served)
    drop = """(text) => {
      const data = new DataTransfer();
      data.items.add(new File([text], "config.json"));
      document.querySelector(".drop").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
    }"""
    page.evaluate(drop, config().decode())
    expect(page.get_by_role("heading", level=1)).to_have_text("gemma3_text")


def test_unknown_keys_are_named_and_may_be_left_out(visit: Open, served: str) -> None:
    page = visit("#/yours", served)
    file = {"name": "odd.json", "mimeType": "application/json", "buffer": config(warp_factor=9)}
    page.get_by_label("A config.json").set_input_files([file])  # type: ignore[list-item]
    expect(page.get_by_text("warp_factor").first).to_be_visible()
    page.get_by_role("button", name="Show it without them").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("odd")
    expect(page.get_by_text("warp_factor").first).to_be_visible()


def test_of_a_weight_file_only_the_header_is_sent(visit: Open, served: str) -> None:
    page = visit("#/yours", served)
    tensors = {"a.weight": {"dtype": "F32", "shape": [1024, 1024], "data_offsets": [0, 2**22]}}
    header = json.dumps(tensors).encode()
    body = struct.pack("<Q", len(header)) + header + bytes(2**22)
    sent: list[int] = []

    def post(request: Request) -> None:
        if request.method == "POST":
            sent.append(int(request.all_headers()["content-length"]))

    page.on("request", post)
    file = {"name": "part.safetensors", "mimeType": "application/octet-stream", "buffer": body}
    page.get_by_label("A config.json").set_input_files([file])  # type: ignore[list-item]
    expect(page.get_by_text("What tensors alone do not say")).to_be_visible()
    expect(page.get_by_role("cell", name="a.weight")).to_be_visible()
    assert sent == [2**20]


def test_a_config_that_is_too_large_is_refused_here(visit: Open, served: str) -> None:
    page = visit("#/yours", served)
    file = {"name": "config.json", "mimeType": "application/json", "buffer": b" " * (2**20 + 1)}
    page.get_by_label("A config.json").set_input_files([file])  # type: ignore[list-item]
    expect(page.get_by_role("alert")).to_contain_text("at most 1 MiB")


def test_the_exported_one_says_that_it_reads_no_files(visit: Open) -> None:
    page = visit("#/yours")
    expect(page.get_by_text("vitruvius explore", exact=False).first).to_be_visible()
    expect(page.locator("input[type=file]")).to_have_count(0)


def test_html_in_a_name_is_text(visit: Open) -> None:
    def rename(route: Route) -> None:
        answer = route.fetch()
        told = answer.json()
        for card in told.get("architectures", [told]):
            if card.get("id") == "gemma-3-1b":
                card |= {"name": HOSTILE, "family": HOSTILE, "license": HOSTILE}
        route.fulfill(response=answer, json=told)

    page = visit("#/yours")
    page.route("**/data/*index.json", rename)
    page.route("**/arch/gemma-3-1b.json", rename)
    page.reload()
    for place in (
        "#/?q=img",
        "#/model/gemma-3-1b",
        "#/compare/gemma-3-1b,gemma-3-4b",
        "#/fit/gemma-3-1b",
        "#/timeline",
    ):
        page.evaluate("(place) => { location.hash = place; }", place)
        expect(page.get_by_text(HOSTILE).first).to_be_attached()
        page.wait_for_load_state("networkidle")
        assert page.locator("img[src=x]").count() == 0
        assert page.evaluate("window.broken") is None


def test_a_drawing_that_holds_more_than_shapes_and_text_loses_it(visit: Open) -> None:
    def poison(route: Route) -> None:
        answer = route.fetch()
        told = answer.json()
        svg = told["drawing"]["svg"]
        evil = '<foreignObject><b>x</b></foreignObject><script>window.broken=1</script><g onload="window.broken=1"/>'
        told["drawing"]["svg"] = svg.replace("</svg>", f"{evil}</svg>")
        route.fulfill(response=answer, json=told)

    page = visit("#/yours")
    page.route("**/arch/gemma-3-1b.json", poison)
    page.evaluate("location.hash = '#/model/gemma-3-1b'")
    expect(page.locator(".drawing-frame svg g").first).to_be_visible()
    assert page.locator(".drawing-frame :is(script, foreignObject, [onload])").count() == 0
    assert page.evaluate("window.broken") is None
