"""What a device makes of a cost: whether the memory is enough, what else would fit, and how long it takes."""

from __future__ import annotations

from collections.abc import Sequence

from ..cost import Cost, Fit
from ..cost.devices import Device
from ..cost.quantity import number, size
from ..cost.roofline import Phase, Time
from ..cost.setting import Layout
from .table import table

NONE_ENOUGH = "no number of them: each keeps the state of all sequences, which --data shares"


def device_table(cost: Cost) -> str:
    """The share of one device, and the times; nothing without a device."""
    setting, share = cost.setting, cost.memory.per_device
    if setting.device is None or share.capacity_bytes is None:
        return ""
    verdict = "fits" if cost.memory.fits else "does not fit"
    rows = [
        ["weights", size(share.weights_bytes), setting.weights.name],
        ["state", size(share.state_bytes), f"{setting.policy}, {setting.state}"],
        ["activations", size(share.activations_bytes), f"estimated, {number(setting.chunk)} tokens at once"],
        ["needed", size(share.needed_bytes), f"of {size(share.capacity_bytes)}: {verdict}"],
    ]
    if cost.memory.offloaded_bytes and setting.offload:
        rate = f"read at {size(int(setting.offload.bandwidth))} a second"
        rows.append(["offloaded", size(cost.memory.offloaded_bytes), f"in the processor's memory, {rate}"])
    mtp = 0 if setting.serving.draft else cost.memory.mtp_bytes
    apart = {"multi-token prediction": mtp, "vision tower": cost.memory.vision_bytes}
    rows += [[name, size(some), "apart, in all"] for name, some in apart.items() if some]
    parts = [f"on {where(setting.device, setting.layout)}", table(rows), *_times(cost.time), *_doubts(setting.device)]
    return "\n\n".join(parts)


def where(device: Device, layout: Layout) -> str:
    """ "8 × NVIDIA H100 SXM 80 GB, each" """
    if layout.devices == 1:
        return device.title
    data = f"{layout.data} groups of " if layout.data > 1 else ""
    experts = ", experts spread over all" if layout.experts == "spread" else ""
    stages = f"{layout.pipeline} stages of " if layout.pipeline > 1 else ""
    return f"{layout.devices} × {device.title} ({stages}{data}tensor parallel {layout.tensor}{experts}), each"


def fits_table(cost: Cost, fit: Fit) -> str:
    """What would fit, as sentences in a table."""
    setting = cost.setting
    assert setting.device is not None
    sequences = "sequence" if setting.batch == 1 else "sequences"
    context, batch, devices = fit.context_at_batch, fit.batch_at_context, fit.devices
    rows = [
        [f"longest context of {number(setting.batch)} {sequences}", _limit(context, "tokens")],
        [f"most sequences of {number(setting.context)} tokens", _limit(batch, "")],
        [
            f"fewest devices for {number(setting.batch)} {sequences} of {number(setting.context)} tokens",
            NONE_ENOUGH if devices is None else number(devices),
        ],
    ]
    return table(rows)


def devices_table(devices: Sequence[Device]) -> str:
    """The known devices; figures whose sheet was not read are marked."""
    rows = [["device", "", "memory", "bandwidth", "peaks (dense, TFLOP/s)"]]
    for each in devices:
        peaks = [
            f"{dtype} {_digits(peak / 1e12)}{_mark(each, f'peaks.{dtype}', 'peaks')}"
            for dtype, peak in each.peaks.items()
        ]
        memory = f"{each.capacity / 1e9:,.4g} GB{_mark(each, 'capacity')}"
        speed = f"{each.bandwidth / 1e9:,.4g} GB/s{_mark(each, 'bandwidth')}"
        rows.append([each.name, each.title, memory, speed, ", ".join(peaks)])
    return f"{table(rows)}\n\n? the vendor's sheet could not be read"


def _limit(count: int | None, what: str) -> str:
    if count == 0:
        return "none fits"
    return "no limit" if count is None else f"{number(count)} {what}".rstrip()


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _mark(device: Device, *fields: str) -> str:
    return "?" if set(fields) & set(device.unconfirmed) else ""


def _doubts(device: Device) -> list[str]:
    return [f"unconfirmed figures of the device: {', '.join(device.unconfirmed)}"] if device.unconfirmed else []


def _times(time: Time | None) -> list[str]:
    if time is None:
        return []
    rows = [["estimated", "seconds", "bound by", "computing", "memory", "network"]]
    rows += [_phase("prefill", time.prefill), _phase("decoding, a token", time.decode)]
    rows.append(["tokens per second", f"{time.tokens_per_second:,.4g}"])
    attained = time.attained
    assumed = f"assumed of the peaks: computing {attained.compute:g}, memory {attained.bandwidth:g}, "
    return [table(rows, left=1), f"{assumed}network {attained.network:g}; products in {time.computed_in}"]


def _phase(name: str, phase: Phase) -> list[str]:
    shares = [f"{phase.bounds.get(bound, 0) / phase.seconds:.0%}" for bound in ("compute", "memory", "network")]
    return [name, f"{phase.seconds:.4g}", phase.bound, *shares]
