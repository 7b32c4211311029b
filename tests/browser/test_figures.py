"""The page's figures are Python's, and they follow the sliders."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from vitruvius import architecture, cost
from vitruvius.cost.devices import devices

from .conftest import Open

MODELS = ("gemma-3-1b", "deepseek-v2-lite", "nemotron-3-nano-30b-a3b")
SETTINGS = (
    {"device": "h100-sxm", "devices": 1, "context": 8192, "batch": 1, "weights": "bf16", "policy": "minimum"},
    {"device": "rtx-4090", "devices": 2, "context": 5000, "batch": 3, "weights": "q4_k_m", "policy": "llama.cpp"},
    {"device": "b200", "devices": 8, "context": 131_073, "batch": 96, "weights": "mxfp4", "policy": "vllm"},
    {"device": "m4-max", "devices": 1, "context": 100, "batch": 7, "weights": "int8", "policy": "transformers"},
    {"device": "a100-40gb", "devices": 16, "context": 30_000, "batch": 64, "weights": "fp8", "policy": "minimum"},
)
ASK = """
async ([model, settings]) => {
  const at = (path) => new URL(path, location.href.split("#")[0]).href;
  const { memory, seconds, sum, bound } = await import(at("js/pieces.js"));
  const { settingOf } = await import(at("js/parts/settings.js"));
  const [record, devices] = await Promise.all(
    [`data/arch/${model}.json`, "data/devices.json"].map((path) => fetch(at(path)).then((r) => r.json())));
  return settings.map((asked) => {
    const query = Object.fromEntries(Object.entries(asked).map(([key, value]) => [key, String(value)]));
    const setting = settingOf(query, record.pieces, devices);
    const [prefill, decode] = [seconds(record.pieces, true, setting), seconds(record.pieces, false, setting)];
    return { memory: memory(record.pieces, setting), first: sum(prefill), next: sum(decode), bound: bound(decode) };
  });
}
"""


def test_javascript_and_python_agree(visit: Open) -> None:
    page = visit("#/yours")
    for model in MODELS:
        arch = architecture(model)
        asked = [s for s in SETTINGS if s["policy"] in cost(arch, 100).state.policies]
        assert len(asked) >= 3
        for setting, told in zip(asked, page.evaluate(ASK, [model, asked]), strict=True):
            expected = cost(arch, **setting)  # type: ignore[arg-type]
            one, time = expected.memory.per_device, expected.time
            assert one
            assert time
            assert told["memory"]["weights"] == one.weights_bytes, (model, setting)
            assert told["memory"]["state"] == pytest.approx(one.state_bytes, rel=1e-12), (model, setting)
            assert told["memory"]["activations"] == pytest.approx(one.activations_bytes, rel=1e-6), (model, setting)
            assert told["first"] == pytest.approx(time.first_token, rel=1e-9), (model, setting)
            assert told["next"] == pytest.approx(time.per_token, rel=1e-9), (model, setting)
            assert told["bound"] == time.decode.bound, (model, setting)


def test_sliders_change_the_answer_and_the_address(visit: Open) -> None:
    page = visit("#/fit/gemma-3-1b?device=l4&batch=1&context=8192")
    answer = page.get_by_label("Answer")
    expect(answer).to_contain_text("It fits.")
    expect(answer).to_contain_text(size(cost(architecture("gemma-3-1b"), 8192).memory.weights_bytes))
    page.get_by_label("Batch", exact=True).fill("20")
    page.get_by_label("Context, exactly").fill("32k")
    page.keyboard.press("Enter")
    expect(answer).to_contain_text("It does not fit.")
    expect(page).to_have_url(re.compile(r"context=32768"))
    assert page.evaluate("document.activeElement.closest('main') !== null")


def test_limits_are_where_it_stops_fitting(visit: Open) -> None:
    page = visit("#/fit/gemma-3-1b?device=l4&context=8192&batch=4")
    limits = page.locator(".limits")
    batch = int(limits.locator("dd").nth(2).inner_text().replace(",", ""))
    arch = architecture("gemma-3-1b")
    assert cost(arch, 8192, batch, device="l4").memory.fits
    assert not cost(arch, 8192, batch + 1, device="l4").memory.fits
    context = int(re.sub(r"\D", "", limits.locator("dd").first.get_attribute("title") or ""))
    assert cost(arch, context, 4, device="l4").memory.fits
    assert not cost(arch, context + 1, 4, device="l4").memory.fits


def test_every_device_is_there(visit: Open) -> None:
    page = visit("#/fit/gemma-3-1b")
    rows = page.get_by_label("Gemma 3 1B on every device").locator("tbody tr")
    expect(rows).to_have_count(len(devices()))


def test_a_device_without_a_link_has_no_time_for_several(visit: Open) -> None:
    page = visit("#/fit/gemma-3-1b?device=m4-max&devices=2")
    expect(page.get_by_label("Answer")).to_contain_text("has no link to another")


def test_new_figures_are_there_in_the_same_task(visit: Open) -> None:
    """No timing: after an input event and the frame after it, the figures are new."""
    page = visit("#/fit/gemma-3-1b?context=8192")
    page.locator("#slide-context").wait_for()
    page.locator(".verdict dd").first.wait_for()
    before = figures(page)
    page.evaluate(
        """async () => {
          const slider = document.getElementById("slide-context");
          slider.value = Number(slider.value) + 2;
          slider.dispatchEvent(new Event("input", { bubbles: true }));
          await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
        }"""
    )
    assert figures(page) != before


def figures(page: Page) -> Any:
    return page.evaluate("[...document.querySelectorAll('.verdict b, .verdict dd')].map((each) => each.textContent)")


def size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"
