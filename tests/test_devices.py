"""Devices: their figures against the arithmetic of their units, the user's file, and this machine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vitruvius.cost import this_machine as machine
from vitruvius.cost.devices import Device, device, devices
from vitruvius.errors import InputError

NEEDED = {"h100-sxm", "h100-pcie", "h200", "b200", "gb200", "a100-40gb", "a100-80gb", "l40s", "l4", "rtx-4090"}
NEEDED |= {"rtx-5090", "mi300x", "mi355x", "m3-max", "m4-max", "m3-ultra", "m2-ultra"}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_all_that_are_needed_are_there() -> None:
    assert {each.name for each in devices()} >= NEEDED


@pytest.mark.parametrize("each", devices(), ids=lambda each: each.name)
def test_every_figure_says_where_it_is_from(each: Device) -> None:
    figures = {"peaks", "bandwidth", "capacity"} | {key for key in ("link", "network") if getattr(each, key)}
    assert set(each.sources) == figures
    fields = figures | {f"peaks.{dtype}" for dtype in each.peaks}
    assert set(each.unconfirmed) <= fields
    from_memory = {key for key, source in each.sources.items() if source.endswith("from memory")}
    assert {name.partition(".")[0] for name in each.unconfirmed} >= from_memory


# streaming multiprocessors, dense FLOPs of one in a clock by dtype, clock in GHz: the vendors' architecture papers
UNITS = {
    "h100-sxm": (132, {"tf32": 2048, "bf16": 4096, "fp8": 8192, "int8": 8192}, 1.830),
    "a100-40gb": (108, {"tf32": 1024, "bf16": 2048, "int8": 4096, "int4": 8192}, 1.410),
    "a100-80gb": (108, {"tf32": 1024, "bf16": 2048, "int8": 4096, "int4": 8192}, 1.410),
}


@pytest.mark.parametrize("name", UNITS)
def test_peaks_are_what_the_units_do_without_sparsity(name: str) -> None:
    count, work, clock = UNITS[name]
    for dtype, each in work.items():
        assert device(name).peaks[dtype] == pytest.approx(count * each * clock * 1e9, rel=2e-3)


def test_dense_peaks_of_the_sheets() -> None:
    dense = {"h100-sxm": 989.4, "h200": 989.4, "a100-80gb": 312, "b200": 2250, "gb200": 2500, "l40s": 362.05}
    assert {name: device(name).peaks["bf16"] / 1e12 for name in dense} == dense
    assert device("h100-sxm").bandwidth == 3.35e12
    assert device("h100-sxm").link == 450e9  # of 900 GB/s in both directions
    assert not set(UNITS) & {each.name for each in devices() if "peaks.bf16" in each.unconfirmed}


@pytest.mark.parametrize(
    ("name", "dtype", "computed"),
    [
        ("h100-sxm", "bf16", "bf16"),
        ("h100-sxm", "float16", "bf16"),
        ("h100-sxm", "fp4", "fp8"),
        ("h100-sxm", "int4", "int8"),
        ("a100-80gb", "fp8", "bf16"),
        ("b200", "fp4", "fp4"),
        ("m4-max", "fp8", "bf16"),
        ("mi355x", "tf32", "f32"),
    ],
)
def test_what_has_no_units_is_widened(name: str, dtype: str, computed: str) -> None:
    assert device(name).peak(dtype) == (device(name).peaks[computed], computed)


# ------------------------------------------------------------------ the user's file

MINE = {"name": "mine", "peaks": {"bf16": 1e15}, "bandwidth": 1e12, "capacity": 10**11}


def test_users_add_and_replace_devices(tmp_path: Path) -> None:
    path = tmp_path / "config" / "vitruvius" / "devices.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps([MINE, {**MINE, "name": "l4", "capacity": 7, "price": 0.5}]))
    found = device("mine")
    assert (found.title, found.kind, found.devices_per_node, found.link) == ("mine", "gpu", 1, None)
    assert (device("l4").capacity, device("l4").price) == (7, 0.5)
    assert len([each for each in devices() if each.name == "l4"]) == 1
    other = tmp_path / "other.json"
    other.write_text(json.dumps([{**MINE, "name": "other"}]))
    assert device("other", other).capacity == 10**11
    assert device("l4", other).capacity == 24 * 10**9  # a file that is named is taken alone
    assert device(found) is found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("{}", "must be a list of devices"),
        ("[1]", "must be a list of devices"),
        ("[" * 10_000, "is not JSON"),
        (json.dumps([{"name": "x"}]), "device 'x' has no 'peaks'"),
        (json.dumps([{**MINE, "flops": 1}]), "device 'mine' has unknown keys flops"),
        (json.dumps([{**MINE, "peaks": {"bf17": 1}}]), "peaks must map some of"),
        (json.dumps([{**MINE, "peaks": {}}]), "peaks must map some of"),
        (json.dumps([{**MINE, "peaks": {"bf16": -1}}]), "peaks.bf16 must be a number above 0, got -1"),
        (json.dumps([{**MINE, "bandwidth": "fast"}]), "bandwidth must be a number above 0, got 'fast'"),
        (json.dumps([{**MINE, "capacity": 1.5}]), "capacity must be a whole number, got 1.5"),
        ('[{"name": "x", "peaks": {"bf16": 1}, "bandwidth": Infinity, "capacity": 1}]', "bandwidth must be a number"),
        (json.dumps([{**MINE, "kind": "toaster"}]), "kind must be one of gpu, soc, cpu"),
        (json.dumps([{**MINE, "name": ""}]), "name must be a text"),
        (json.dumps([{**MINE, "title": 3}]), "title must be a text"),
        (json.dumps([{**MINE, "unconfirmed": 3}]), "unconfirmed must be a list of fields"),
        (json.dumps([{**MINE, "sources": [1]}]), "sources must map fields to texts"),
        (" " * (1 << 20) + "[]", "larger than"),
    ],
)
def test_unusable_files_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "devices.json"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        device("mine", path)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.json: cannot be read"):
        devices(tmp_path / "nothing.json")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("h100", r"did you mean h100-sxm, h100-pcie\?"),
        ("3090", r"did you mean rtx-3090\?"),
        ("a6000", r"did you mean rtx-a6000\?"),
        ("rtx 5090 ti", r"did you mean rtx-5090\?"),
        ("3060", "known are h100-sxm"),
        ("abacus", "known are h100-sxm"),
    ],
)
def test_unknown_devices_are_refused_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(InputError, match=hint):
        device(name)


def test_a_device_is_found_however_it_is_spelled() -> None:
    assert device("RTX 3090").name == "rtx-3090"
    assert device("H100_SXM").name == "h100-sxm"


def test_every_figure_has_a_source_and_those_from_memory_are_unconfirmed() -> None:
    for each in devices():
        figures = [*(f"peaks.{dtype}" for dtype in each.peaks), "bandwidth", "capacity"]
        for figure in figures:
            source = each.sources[figure.partition(".")[0]]
            source = each.sources[source.removeprefix("as ").partition(";")[0]] if source.startswith("as ") else source
            assert source
            assert "memory" not in source.partition(";")[0] or figure in each.unconfirmed, (each.name, figure)


# ------------------------------------------------------------------ this machine


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SIZE", 96)
    monkeypatch.setattr(machine, "READ", 1 << 16)


@pytest.mark.usefixtures("_small")
def test_this_machine_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    measure = machine.measure
    monkeypatch.setattr(machine, "measure", lambda: runs.append(1) or measure())
    first = device("this-machine")
    assert first == device("this-machine")
    assert len(runs) == 1
    assert first.peaks["f32"] > 1e6
    assert first.peak("bf16") == (first.peaks["f32"], "f32")
    assert first.capacity > 1 << 28
    kept = json.loads(machine.cache_file().read_text())
    assert (kept["flops"], kept["bandwidth"]) == (first.peaks["f32"], first.bandwidth)
    assert kept["date"] in first.sources["peaks"]
    machine.this_machine(again=True)
    assert len(runs) == 2


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize(
    "change",
    [None, "[]", '{"flops": 1}', {"flops": -1.0}, {"flops": "1"}, {"processor": "another"}, {"processors": 10**6}],
)
def test_a_measurement_of_something_else_is_not_taken(change: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = machine.measure()
    machine._keep(replace(found, **change) if isinstance(change, dict) else found)
    if not isinstance(change, dict):
        machine.cache_file().write_text(change or "{")
    monkeypatch.setattr(machine, "measure", lambda: replace(found, flops=7.0))
    assert device("this-machine").peaks == {"f32": 7.0}
