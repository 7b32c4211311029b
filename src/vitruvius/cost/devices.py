"""Devices: what they can compute, move and hold, and where each figure comes from.

Peaks are those of the matrix units without sparsity, in operations per second, by the dtype of the factors; sums are in
float32 (for integers in int32) wherever the vendor states that rate apart. A sheet's "GB" is 10⁹ bytes here: the chips
hold a little more (an H100 of "80 GB" reports 85.5 · 10⁹), which is what a driver, its context and a library's
workspaces need anyway. A figure whose sheet nobody here could read is named in `unconfirmed`.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from importlib import resources
from math import isfinite
from pathlib import Path
from typing import Any

from ..errors import InputError

KINDS = ("gpu", "soc", "cpu")
WIDER = {  # where a device has no units for a dtype, the factors are widened to the next
    "fp4": "fp8",
    "fp8": "bf16",
    "int4": "int8",
    "int8": "bf16",
    "bf16": "tf32",
    "tf32": "f32",
}
SPELLINGS = {"fp32": "f32", "float32": "f32", "bfloat16": "bf16", "f16": "bf16", "fp16": "bf16", "float16": "bf16"}
SPELLINGS |= {"float8": "fp8"}
THIS_MACHINE = "this-machine"
LARGEST_FILE = 1 << 20  # bytes of a user's file


@dataclass(frozen=True)
class Device:
    """One accelerator, or a machine's processors taken as one.

    Args:
        kind: "gpu", "soc" (memory shared with the processor) or "cpu".
        peaks: operations per second by dtype, a multiply-add counted as two; see the module.
        bandwidth: of its memory, bytes per second.
        capacity: of its memory, bytes.
        link: bytes per second in one direction between it and the others of its node, None where there is no other.
        network: bytes per second in one direction between nodes, each device's share; None as above.
        sources: the sheet that each field was read from.
        unconfirmed: fields whose sheet was not read ("peaks.fp8" for one of several).
        price: of an hour, in dollars; only what a user's file says.
    """

    name: str
    title: str
    vendor: str
    kind: str
    peaks: Mapping[str, float]
    bandwidth: float
    capacity: int
    link: float | None = None
    network: float | None = None
    devices_per_node: int = 1
    sources: Mapping[str, str] = field(default_factory=dict)
    unconfirmed: tuple[str, ...] = ()
    price: float | None = None

    def peak(self, dtype: str) -> tuple[float, str]:
        """Operations per second on factors of `dtype`, and the dtype that they really have there: a device without
        units for it widens them."""
        dtype = SPELLINGS.get(dtype, dtype)
        while dtype not in self.peaks and dtype in WIDER:
            dtype = WIDER[dtype]
        if dtype not in self.peaks:
            raise InputError(f"device {self.name!r} says nothing of {dtype}; it has {', '.join(self.peaks)}")
        return self.peaks[dtype], dtype


def devices(file: str | os.PathLike[str] | None = None) -> tuple[Device, ...]:
    """All known devices: the packaged ones, then those of the user's `file`, which replace those of the same name.

    Without `file` it is $XDG_CONFIG_HOME/vitruvius/devices.json, if that exists. "this-machine" is not among them: it
    has figures only when it is measured.
    """
    known = {each.name: each for each in _packaged()}
    path = Path(file) if file is not None else user_file()
    if file is not None or path.is_file():
        known |= {each.name: each for each in _read(path)}
    return tuple(known.values())


def device(which: str | Device, file: str | os.PathLike[str] | None = None) -> Device:
    """A device by its name. "this-machine" is measured, for about a second, when it is first asked for.

    Raises InputError, which suggests the nearest names.
    """
    if isinstance(which, Device):
        return which
    known = {each.name: each for each in devices(file)}
    if which in known:
        return known[which]
    if which == THIS_MACHINE:
        from .this_machine import this_machine  # numpy, which is not needed for the others

        return this_machine()
    names = [*known, THIS_MACHINE]
    near = _near(which, names)
    if len(near) == 1 and _plain(near[0]) == _plain(which) and near[0] in known:  # "RTX 3090"
        return known[near[0]]
    hint = f"did you mean {', '.join(near)}?" if near else f"known are {', '.join(names)}"
    raise InputError(f"no device named {which!r}; {hint}")


def _near(asked: str, names: list[str]) -> list[str]:
    """The names that may have been meant: those that hold it, whatever stands between its letters; else similar ones
    with the same numbers, since a 3090 is not nearly a 300."""
    plain, asked = {name: _plain(name) for name in names}, _plain(asked)
    if holding := [name for name in names if asked and asked in plain[name]]:
        return holding
    numbers = re.findall("[0-9]+", asked)
    similar = difflib.get_close_matches(asked, plain.values(), cutoff=0.5)
    return [name for name in names if plain[name] in similar and set(numbers) <= set(re.findall("[0-9]+", plain[name]))]


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.casefold())


def user_file() -> Path:
    """Where a user's own devices are looked for."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "vitruvius" / "devices.json"


@cache
def _packaged() -> tuple[Device, ...]:
    text = resources.files(__package__).joinpath("devices.json").read_text("utf-8")
    return tuple(_device(record, "devices.json") for record in json.loads(text))


def _read(path: Path) -> tuple[Device, ...]:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise InputError(f"{path}: larger than {LARGEST_FILE:,} bytes, which no list of devices is")
        records = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({error})") from None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise InputError(f"{path}: must be a list of devices, each an object")
    return tuple(_device(record, str(path)) for record in records)


def _device(record: Mapping[str, Any], where: str) -> Device:
    known = {each.name for each in fields(Device)}
    needed = ("name", "peaks", "bandwidth", "capacity")
    name = record.get("name")
    for key in needed:
        if key not in record:
            raise InputError(f"{where}: device {name!r} has no {key!r}; needed are {', '.join(needed)}")
    if unknown := sorted(record.keys() - known):
        raise InputError(f"{where}: device {name!r} has unknown keys {', '.join(unknown)}; known are {sorted(known)}")
    for key, kind, what in (("unconfirmed", list, "be a list of fields"), ("sources", dict, "map fields to texts")):
        if not isinstance(record.get(key, kind()), kind):
            raise InputError(f"{where}: device {name!r}: {key} must {what}, got {record[key]!r}")
    made = {"title": name, "vendor": "", "kind": "gpu", **record, "unconfirmed": tuple(record.get("unconfirmed", ()))}
    return _checked(Device(**made), where)


def _checked(device: Device, where: str) -> Device:
    def wrong(what: str, value: object) -> InputError:
        return InputError(f"{where}: device {device.name!r}: {what}, got {value!r}")

    for key in ("name", "title", "vendor"):
        if not isinstance(value := getattr(device, key), str) or (key == "name" and not value):
            raise wrong(f"{key} must be a text", value)
    if device.kind not in KINDS:
        raise wrong(f"kind must be one of {', '.join(KINDS)}", device.kind)
    if not isinstance(device.peaks, dict) or not device.peaks or device.peaks.keys() - {*WIDER, "f32"}:
        raise wrong(f"peaks must map some of {', '.join([*WIDER, 'f32'])} to operations per second", device.peaks)
    optional = {key: getattr(device, key) for key in ("link", "network", "price")}
    figures = {"bandwidth": device.bandwidth, "capacity": device.capacity, "devices_per_node": device.devices_per_node}
    figures |= {f"peaks.{dtype}": peak for dtype, peak in device.peaks.items()}
    for key, value in (figures | {key: value for key, value in optional.items() if value is not None}).items():
        if type(value) not in (int, float) or not isfinite(value) or value <= 0:
            raise wrong(f"{key} must be a number above 0", value)
    for key in ("capacity", "devices_per_node"):
        if getattr(device, key) != int(getattr(device, key)):
            raise wrong(f"{key} must be a whole number", getattr(device, key))
    return device
