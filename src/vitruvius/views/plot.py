"""Charts of models: `charts`' descriptions filled with what `cost` finds."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..cost import cost
from ..cost.counting import counted
from ..cost.memory import per_device, weights_on_one
from ..cost.part import MTP
from ..cost.policies import kept, reserved
from ..cost.quantity import number, size
from ..cost.roofline import time
from ..cost.setting import Layout, Setting, setting_for
from ..cost.training import MFU, training
from ..cost.work import work
from ..errors import InputError
from ..spec import Decoder
from .charts import PARTS, Spec, charts

Rows = list[dict[str, Any]]
FORMATS = (".svg", ".png", ".json")
BATCHES = tuple(2**n for n in range(11))
SHORTEST = 256  # the context that curves begin at
VERSION = "5.21"  # of Vega-Lite, which the descriptions are written for


@dataclass(frozen=True)
class Chart:
    """A chart with its data; a notebook shows it by itself."""

    spec: Spec = field(repr=False)

    def save(self, path: str | os.PathLike[str], scale: float = 2.0) -> None:
        """Writes it as .svg or .png (which needs the extra `plot`), or its Vega-Lite description as .json. `scale` is
        of pixels."""
        target = Path(path)
        if target.suffix.lower() not in FORMATS:
            raise InputError(f"a chart is written as {', '.join(FORMATS)}, which {str(target)!r} does not end in")
        if not target.parent.is_dir():
            raise InputError(f"the folder {str(target.parent)!r} does not exist: make it first")
        made: dict[str, Callable[[], bytes | str]] = {
            ".svg": self.svg,
            ".png": lambda: self.png(scale),
            ".json": lambda: json.dumps(self.spec, indent=1),
        }
        content: bytes | str = made[target.suffix.lower()]()
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        beside.write_bytes(content if isinstance(content, bytes) else content.encode())
        beside.replace(target)

    def svg(self) -> str:
        """As SVG."""
        drawn: str = _converter().vegalite_to_svg(self.spec, vl_version=VERSION)
        return drawn

    def png(self, scale: float = 2.0) -> bytes:
        """As PNG, `scale` pixels for each of the chart's."""
        drawn: bytes = _converter().vegalite_to_png(self.spec, vl_version=VERSION, scale=scale)
        return drawn

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle: dict[str, Any] = {"application/vnd.vegalite.v5+json": self.spec}
        try:
            bundle["image/svg+xml"] = self.svg()
        except InputError:
            bundle["text/plain"] = repr(self)  # a notebook that knows Vega-Lite draws it itself
        return bundle


def plot(
    kind: str,
    archs: Sequence[Decoder],
    *,
    policies: Sequence[str] = ("minimum",),
    tokens: int | None = None,
    ink: str = "light",
    **options: Any,
) -> Chart:
    """A chart of one or several models.

    Args:
        kind: a name of `charts.charts`.
        policies: how state is accounted for, in the chart of state.
        tokens: of the longest training run; by default 20 for each parameter of the largest.
        ink: "light", "dark", or "neutral" for any ground, which is left transparent.
        options: as in `cost`: context, batch, dtype, device, devices …

    Raises InputError for what cannot be drawn.
    """
    if kind not in KINDS:
        raise InputError(f"no chart {kind!r}; there are {', '.join(KINDS)}")
    if not archs:
        raise InputError("a chart needs a model")
    made = KINDS[kind](archs, {"policies": tuple(policies), "tokens": tokens, **options})
    return Chart(filled(charts(ink)[kind], made.rows, made.subtitle, made.points, made.limits))


def filled(spec: Spec, rows: Rows, subtitle: str, points: Rows | None = None, limits: Rows | None = None) -> Spec:
    """A description with its data. What is not among them is taken out of the legend."""
    spec = copy.deepcopy(spec)
    spec["title"]["subtitle"] = subtitle.split("; ")
    spec["datasets"] = {"rows": rows, "points": points or [], "limits": limits or []}
    for layer in (spec, *spec.get("layer", ())):
        color = layer.get("encoding", {}).get("color", {})
        if "domain" in (scale := color.get("scale", {})):
            there = {row[color["field"]] for row in rows}
            paint = dict(zip(scale["domain"], scale["range"], strict=True))
            scale["domain"] = [name for name in paint if name in there]
            scale["range"] = [paint[name] for name in scale["domain"]]
        if "strokeDash" in layer.get("encoding", {}) and len({row["policy"] for row in rows}) == 1:
            layer["encoding"]["strokeDash"]["legend"] = None
    return spec


# ------------------------------------------------------------------ the rows of each kind


@dataclass(frozen=True)
class Data:
    """What a chart shows, and for which setting."""

    rows: Rows
    subtitle: str
    points: Rows | None = None
    limits: Rows | None = None


def _state(archs: Sequence[Decoder], arguments: dict[str, Any]) -> Data:
    policies, _ = arguments.pop("policies"), arguments.pop("tokens")
    first = setting_for(archs[0], **arguments)
    rows = []
    for arch in archs:
        layers = kept(arch)
        for policy in policies:
            for context in _contexts(arch):
                sizes = reserved(layers, context, first.state, chunk=first.chunk)
                if policy in sizes:
                    rows.append({"model": arch.name, "policy": policy, "context": context, "bytes": sizes[policy]})
    accounted = "architectural minimum" if policies == ("minimum",) else ", ".join(policies)
    return Data(rows, f"{first.state}, {accounted}; each line to the longest context that the model is made for")


def _flops(archs: Sequence[Decoder], arguments: dict[str, Any]) -> Data:
    rows = []
    for arch in archs:
        parts = work(arch)
        for context in _contexts(arch):
            flops = sum(part.products(prompt=False) + part.scores(context, prompt=False) for part in parts)
            rows.append({"model": arch.name, "context": context, "flops": int(flops)})
    return Data(rows, "one more token of one sequence; a multiply-add is 2 operations")


def _against_batch(archs: Sequence[Decoder], arguments: dict[str, Any]) -> Data:
    context = arguments.pop("context", None) or min(8192, *(arch.context for arch in archs))
    options = {name: value for name, value in arguments.items() if name not in ("policies", "tokens", "batch")}
    rows = []
    for arch in archs:
        parts, setting = work(arch), setting_for(arch, context, **options)
        weights = weights_on_one(arch, counted(arch), setting)
        for batch in BATCHES:
            each = replace(setting, batch=batch)
            share, found = per_device(arch, each, weights), time(arch, each, parts)
            if found is None or share.capacity_bytes is None:
                raise InputError("a chart of time needs a device: --device h100-sxm")
            row = {"model": arch.name, "batch": batch, "fits": share.needed_bytes <= share.capacity_bytes}
            rows.append(row | {"seconds": found.per_token, "tokens_per_second": found.tokens_per_second})
    attained = setting.attained
    attained_shares = f"{attained.compute:.0%} of its compute, {attained.bandwidth:.0%} of its bandwidth"
    shown = f"{on(setting)}, {_weights(setting)}, {number(context)} tokens each"
    return Data(rows, f"{shown}; estimated at {attained_shares}; dotted: does not fit")


def _memory(archs: Sequence[Decoder], arguments: dict[str, Any]) -> Data:
    options = {name: value for name, value in arguments.items() if name not in ("policies", "tokens", "context")}
    context = arguments.get("context") or min(each.context for each in archs)
    rows, settings = [], []
    for arch in archs:
        found = cost(arch, context, **options)
        share = found.memory.per_device
        settings.append(found.setting)
        parts = {"weights": share.weights_bytes, "state": share.state_bytes, "activations": share.activations_bytes}
        rows += [
            {"model": arch.name, "what": what, "bytes": number_of_bytes, "order": i}
            for i, (what, number_of_bytes) in enumerate(parts.items())
        ]
    setting = settings[0]
    subtitle = (
        f"{_weights(setting)}, {number(setting.batch)} × {number(setting.context)} tokens of {setting.state} state"
    )
    return Data(rows, f"{on(setting)}, {subtitle}" if setting.device else subtitle, limits=_limits(setting))


def _parameters(archs: Sequence[Decoder], arguments: dict[str, Any]) -> Data:
    rows = []
    for arch in archs:
        weights = [weight for weight in counted(arch) if weight.part != MTP]
        sparse = any(weight.active != weight.elements for weight in weights)
        for of in ("all", "one token") if sparse else ("all",):
            sums = dict.fromkeys(PARTS, 0)
            for weight in weights:
                sums[weight.part if weight.part in PARTS else "other"] += (
                    weight.active if of == "one token" else weight.elements
                )
            rows += [
                {"model": arch.name, "of": of, "part": part, "parameters": count, "order": order}
                for order, (part, count) in enumerate(sums.items())
                if count
            ]
    return Data(rows, "of the text model; “one token”: those that a token passes through")


def _training(archs: Sequence[Decoder], arguments: dict[str, Any]) -> Data:
    setting = _for_training(archs, arguments)
    budget = arguments["tokens"] or max(training(arch).chinchilla_tokens for arch in archs) * 4
    rows, points = [], []
    for arch in archs:
        best = training(arch, device=setting.device, dtype=setting.dtype)
        assert best.run is not None
        once = best.run.device_hours / best.tokens
        for tokens in (budget / 1000 * 10 ** (n / 4) for n in range(13)):
            rows.append({"model": arch.name, "tokens": tokens, "hours": once * tokens})
        points.append(_point(arch, best.chinchilla_tokens, once * best.chinchilla_tokens, "20 tokens per parameter"))
        if best.published:
            points.append(_point(arch, best.published.tokens, best.published.device_hours, "published"))
    return Data(
        rows,
        f"estimated hours of {on(replace(setting, layout=Layout()))} at {MFU:.0%} of its {setting.dtype} peak",
        points=points,
    )


def _training_memory(archs: Sequence[Decoder], arguments: dict[str, Any]) -> Data:
    setting = _for_training(archs, arguments)
    rows = []
    for arch in archs:
        needs = training(arch, device=setting.device, layout=setting.layout, zero=3, checkpointing=True).memory
        parts = {
            "weights": needs.weights_bytes,
            "gradients": needs.gradients_bytes,
            "optimizer": needs.optimizer_bytes,
            "activations": needs.activations_bytes,
        }
        rows += [
            {"model": arch.name, "what": what, "bytes": size, "order": i}
            for i, (what, size) in enumerate(parts.items())
        ]
    return Data(
        rows,
        f"{on(setting)}; AdamW, 16 bytes for a parameter, ZeRO-3, checkpointing, one sequence each",
        limits=_limits(setting),
    )


def _for_training(archs: Sequence[Decoder], arguments: dict[str, Any]) -> Setting:
    known = ("dtype", "device", "devices", "layout", "devices_file")
    setting = setting_for(archs[0], **{name: arguments[name] for name in known if name in arguments})
    if setting.device is None:
        raise InputError("a chart of training needs a device: --device h100-sxm")
    return setting


def _point(arch: Decoder, tokens: int, hours: float, what: str) -> dict[str, Any]:
    return {"model": arch.name, "tokens": tokens, "hours": hours, "what": what}


def _contexts(arch: Decoder) -> list[int]:
    """Quarters of powers of two up to the longest that the model is made for."""
    some = [round(SHORTEST * 2 ** (n / 4)) for n in range(100)]
    return [context for context in some if context < arch.context] + [arch.context]


def on(setting: Setting) -> str:
    """The devices by name: "8 × NVIDIA H100 SXM"."""
    assert setting.device is not None
    count = setting.layout.devices
    return f"{count} × {setting.device.title}" if count > 1 else setting.device.title


def _weights(setting: Setting) -> str:
    return f"{setting.weights.name} weights"


def _limits(setting: Setting) -> Rows:
    if setting.device is None:
        return []
    return [{"device": f"{setting.device.title}: {size(setting.device.capacity)}", "bytes": setting.device.capacity}]


def _converter() -> Any:
    try:
        import vl_convert
    except ImportError:
        raise InputError(
            "drawing a chart needs vl-convert-python: pip install 'vitruvius[plot]', or write it as .json"
        ) from None
    return vl_convert


KINDS: Mapping[str, Callable[[Sequence[Decoder], dict[str, Any]], Data]] = {
    "state": _state,
    "flops": _flops,
    "latency": _against_batch,
    "throughput": _against_batch,
    "memory": _memory,
    "parameters": _parameters,
    "training": _training,
    "training-memory": _training_memory,
}
