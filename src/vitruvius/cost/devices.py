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
from dataclasses import fields
from functools import cache
from importlib import resources
from math import isfinite
from pathlib import Path
from typing import Any

from ..errors import InputError
from .device import THIS_MACHINE, WIDER, Device
from .quantity import size as shown

__all__ = ["Device", "device", "devices", "memory_of", "user_file"]

KINDS = ("gpu", "soc", "cpu")
LARGEST_FILE = 1 << 20  # bytes of a user's file


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


def memory_of(size: int) -> Device:
    """A device of which nothing is known but its memory in bytes: it says what fits, and no times."""
    title = f"a device of {shown(size)}"
    return Device(shown(size), title, "", "gpu", {}, 0.0, size, link=1.0, network=None, devices_per_node=8)


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
