"""What fits on a device: the longest context, the most sequences, the fewest devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ..errors import InputError
from ..sharding import Layout
from ..spec import Decoder
from .counting import counted
from .memory import per_device, weights_on_one
from .setting import Setting

MOST = 1 << 30  # tokens or sequences; what still fits there is said to be unlimited
MOST_NODES = 64


@dataclass(frozen=True)
class Fit:
    """0 where nothing fits; None where there is no limit (context, batch), or no number of devices is enough."""

    context_at_batch: int | None
    batch_at_context: int | None
    devices: int | None


def fit(arch: Decoder, setting: Setting) -> Fit:
    """The longest context at the setting's batch, the largest batch at its context, both in its layout, and the fewest
    devices that hold its batch at its context.

    More devices are more to cut matrices and heads among; where the layout has groups or spreads experts, more groups.
    """
    if setting.device is None:
        raise InputError("what fits can only be said of a device; name one")
    weights, data = counted(arch), setting.layout.data
    own: dict[Layout, list[int]] = {}

    def holds(setting: Setting) -> bool:
        if setting.layout not in own:
            own[setting.layout] = weights_on_one(arch, weights, setting)
        share = per_device(arch, setting, own[setting.layout])
        return share.capacity_bytes is not None and share.needed_bytes <= share.capacity_bytes

    batch = _largest(lambda each: holds(replace(setting, batch=each * data)))
    return Fit(
        context_at_batch=_largest(lambda context: holds(replace(setting, context=context))),
        batch_at_context=None if batch is None else batch * data,
        devices=next((each.devices for each in _layouts(setting) if holds(replace(setting, layout=each))), None),
    )


def _largest(holds: Callable[[int], bool]) -> int | None:
    """The largest number that holds, given that all smaller ones do; 0 if none, None if `MOST` does."""
    if holds(MOST):
        return None
    low, high = 0, MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _layouts(setting: Setting) -> Iterator[Layout]:
    """Of more and more devices: powers of two within a node, then whole nodes, as far as these are linked."""
    device, layout = setting.device, setting.layout
    assert device is not None
    node = device.devices_per_node
    within = [1 << k for k in range(node.bit_length()) if 1 << k < node]
    for count in (*within, *(node * k for k in range(1, (MOST_NODES if device.network else 1) + 1))):
        if layout.data == 1 and layout.spread is None:
            yield Layout(tensor=count)
        elif count % layout.tensor == 0:
            yield replace(layout, data=count // layout.tensor)
