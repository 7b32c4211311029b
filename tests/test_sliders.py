"""The exported pieces: equal to what they were made from, at every context and for every model of the catalog."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from vitruvius import catalog
from vitruvius.architectures import read
from vitruvius.cost import cost
from vitruvius.cost.curve import Curve, curve, fit
from vitruvius.cost.devices import Device
from vitruvius.cost.roofline import time
from vitruvius.cost.setting import Attained, Layout, setting_for
from vitruvius.cost.sliders import AS_STORED, DEGREES, FORMATS, at, seconds, sliders
from vitruvius.errors import InputError
from vitruvius.sizing import released
from vitruvius.spec import Causal, Chunk, Decoder, Window

NAMES = catalog.names()
SOME = (
    "llama-3-8b",
    "gemma-3-27b",
    "deepseek-v3.2",
    "llama-4-scout",
    "qwen3-next-80b-a3b",
    "gemma-3n-e4b",
    "switch-base-8",
)
DEVICE = Device(
    "square",
    "Square",
    "",
    "gpu",
    peaks={"bf16": 2e14, "fp8": 4e14, "f32": 1e13},
    bandwidth=1e12,
    capacity=10**11,
    link=1e11,
    network=1e10,
    devices_per_node=4,
)


@cache
def arch(name: str) -> Decoder:
    entry = catalog.entry(name)
    return read(entry.config, entry.id, catalog.implicit)


@cache
def found(name: str) -> dict[str, Any]:
    exported: dict[str, Any] = json.loads(json.dumps(sliders(arch(name))))
    return exported


def contexts(name: str, count: int) -> list[int]:
    """Short and long ones, of all magnitudes alike, and those around powers of two, where windows end."""
    some = random.Random(name)
    edges = [2 ** some.randrange(8, 18) + some.randrange(-1, 3) for _ in range(count // 2)]
    return [*edges, *(some.randrange(1, 2 ** some.randrange(2, 24)) for _ in range(count - len(edges)))]


# ------------------------------------------------------------------ curves


@pytest.mark.parametrize(
    ("function", "count"),
    [
        (Causal().pairs, 1),
        (Window(size=1000).pairs, 2),
        (Chunk(size=700).pairs, 1),
        (lambda c: Chunk(size=700).pairs(c) - Chunk(size=700).pairs(c - 1), 1),
        (lambda c: -(-c // 16) * 16, 1),
        (lambda c: min(-(-c // 256) * 256, 1536), 2),
        (lambda c: -(-c // 16) * 5 + -(-c // 48) * 7, 1),
        (lambda c: -(-min(c, 2000) // 16) * 5 + -(-c // 32) * 7, 2),
        (lambda c: min(c, 5) * 7 + max(c - 90, 0) ** 2, 3),
        (lambda c: 42, 1),
        *((lambda c, n=n: min(c, n), None) for n in (1, 2, 3, 4)),
    ],
)
def test_a_curve_is_its_function_everywhere(function: Callable[[int], int], count: int | None) -> None:
    made = fit(function)
    assert count is None or len(made) == count
    for context in [*range(1, 4000), 10**6, 2**26 + 1]:
        assert curve([(function, 3)])(context) == 3 * function(context)


def test_curves_add_up() -> None:
    kinds = [(Causal().pairs, 2), (Window(size=100).pairs, 5), (Chunk(size=64).pairs, 3), (Chunk(size=96).pairs, 1)]
    summed = curve(kinds)
    assert len(summed.terms) == 3  # the plain ones are one
    assert all(summed(c) == sum(n * f(c) for f, n in kinds) for c in (1, 63, 64, 65, 96, 99, 100, 101, 5000))


def test_nothing_is_an_empty_curve() -> None:
    assert curve([]) == curve([(lambda c: 0, 7)]) == Curve(())
    assert at([], 10) == 0


def test_a_function_without_form_is_refused() -> None:
    noise = random.Random(0)
    with pytest.raises(InputError, match="more than 64 segments"):
        fit(cache(lambda c: noise.randrange(1000)))


# ------------------------------------------------------------------ all models


@pytest.mark.parametrize("name", NAMES)
def test_pieces_are_the_cost(name: str) -> None:
    parts = found(name)
    for context in contexts(name, 8):
        whole = cost(arch(name), context)
        for phase, split in whole.flops.by_part.items():
            assert {part: round(at(terms, context)) for part, terms in parts["flops"][phase].items()} == pytest.approx(
                dict(split), rel=1e-13
            )
        larger = cost(arch(name), context, chunk=parts["chunks"]["large"]).state.policies.get("vllm")
        if larger is not None:
            assert at(parts["state_large"]["vllm"]["bf16"][0], context) == pytest.approx(larger, rel=1e-13)
        for policy, size in whole.state.policies.items():
            assert at(parts["state"][policy]["bf16"][0], context) == pytest.approx(size, rel=1e-13), (policy, context)
        assert whole.state.bytes_per_token == parts["state_per_token"]["bf16"]
    assert parts["weights"]["bf16"][0] == whole.memory.weights_bytes


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("devices", DEGREES[:4])
def test_seconds_are_the_roofline(name: str, devices: int) -> None:
    some = random.Random(f"{name} {devices}")
    for context in contexts(name, 4):
        weights, state, batch = some.choice(FORMATS), some.choice(("bf16", "fp8")), some.randrange(1, 200)
        asked = setting_for(
            arch(name), context, batch, device=DEVICE, weights=weights, state=state, layout=Layout(tensor=devices)
        )
        asked = replace(asked, attained=Attained(0.5, 0.75, 0.8))
        expected = time(arch(name), asked)
        assert expected is not None
        peak, _ = DEVICE.peak(found(name)["formats"][weights])
        rates = {"products": peak * 0.5, "scores": 1e14, "memory": 0.75e12}
        rates["network"] = (1e11 if devices <= 4 else 1e10) * 0.8
        for prompt, phase in ((True, expected.prefill), (False, expected.decode)):
            each = seconds(found(name), prompt, context, batch, rates, weights, state, devices, asked.chunk)
            assert each == pytest.approx({part: value.seconds for part, value in phase.parts.items()}, rel=1e-9)


@pytest.mark.parametrize("name", SOME)
def test_memory_is_that_of_one_device(name: str) -> None:
    parts = found(name)
    for degree, devices in enumerate(DEGREES):
        for context, batch in ((100, 3), (9000, 16)):
            asked = {"device": DEVICE, "layout": Layout(tensor=devices), "weights": "q4_k_m", "policy": "llama.cpp"}
            share = cost(arch(name), context, batch, **asked).memory.per_device
            assert parts["weights"]["q4_k_m"][degree] == share.weights_bytes
            assert batch * at(parts["state"]["llama.cpp"]["bf16"][degree], context) == share.state_bytes
            active = parts["activations"]["token"][degree] * min(parts["chunks"]["large"], batch * context)
            active += parts["activations"]["sequence"][degree] * batch
            assert active == pytest.approx(share.activations_bytes, rel=1e-6)


def test_what_a_page_gets_is_small() -> None:
    assert max(len(json.dumps(found(name), separators=(",", ":"))) for name in SOME) < 30_000


def test_the_page_begins_with_the_format_of_the_files() -> None:
    """Does gpt-oss-120b fit one H100? As released, in MXFP4, yes."""
    for name in ("gpt-oss-120b", "deepseek-v3"):
        packed = released(arch(name))
        pieces = sliders(arch(name), packed)
        assert next(iter(pieces["formats"])) == AS_STORED
        memory = cost(arch(name), 1000, weights=packed).memory
        assert pieces["weights"][AS_STORED][0] == memory.weights_bytes < pieces["weights"]["bf16"][0] / 1.9
    assert AS_STORED not in found("gemma-3-27b")["formats"], "as bf16, which is there"
