"""What the cost of a model is made of, as numbers and pieces of curves: what a page needs for its sliders.

The page adds, multiplies and takes the largest of three; what windows, latents, experts and pages mean is decided here.
`evaluate` is that arithmetic in Python, as short as it is in the page, tested against `cost`.

A *curve* is `Curve.to_list`'s form, of the context, for one sequence. Lists *by degree* hold a value for each of
`degrees`, the numbers of devices that matrices and heads are cut among.

    model, context       its name, and the longest context that it is made for
    degrees              [1, 2, 4 …]
    formats              format of the weights -> dtype of its products; first "as stored", where files are packed
    bits                 dtype -> bits
    flops                "prefill" and "decode_per_token" -> part -> curve, equal to `cost`'s `by_part`
    state                policy -> dtype -> by degree: curve of bytes on one device
    state_per_token      dtype -> bytes that one more token adds, as in `cost`
    weights              format -> by degree: bytes on one device
    activations          "token" and "sequence": by degree, bytes on one device for each of the tokens that pass through
                         together (min(chunk, batch · context)), and for each sequence
    chunks               the most tokens that pass through together: "usual", and "large" on a GPU that has "large_from"
                         bytes; "state_large" holds the policies for which that matters
    steps                what `roofline` adds up, one for each part:
      part, last             its name; whether it sees the last token of a prompt only
      products               "prefill" and "decode" -> by degree: operations for a token
      scores                 [{prefill, decode: curves of operations, share: by degree}]
      weights                [{bytes: format -> bytes, uses, rows, decode, share: by degree}]: a token uses a share of
                             them (k/E of the experts), or one of so many `rows` of a table; `decode` is false for what
                             only an encoder reads
      state                  [{dtype (null: the one asked for), read, written: curves of elements, share: by degree}]
      reduce, gather         "prefill" and "decode": channels that devices exchange for a token
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache, partial
from itertools import chain
from operator import mul
from typing import Any

from ..sharding import Layout, share
from ..spec import Decoder, Spec, StateEntry, Weight
from .counting import Counted, counted, flops
from .curve import curve
from .dtypes import bits, stored
from .formats import Format, weight_format
from .memory import activations
from .part import MTP, headed
from .policies import CHUNK, POLICIES, Layers, kept, reserved, reserved_by
from .setting import LARGE, LARGE_CHUNK, Setting, setting_for
from .work import Mixer, Work, cut, decode_flops, prefill_flops, work, written

DEGREES = (1, 2, 4, 8, 16, 32)
FORMATS = ("f32", "bf16", "fp8", "int8", "int4", "fp8-block", "int4-g128", "mxfp4", "q8_0", "q6_k", "q4_k_m")
AS_STORED = "as stored"  # what the page begins with, where there is such a format
STATES = ("f32", "bf16", "fp8")
DTYPE = "bf16"  # of activations
BY_CHUNK = ("vllm",)  # policies that reserve room for the tokens of a step

Times = tuple[Callable[[int], int], int]  # a function of the context, and how often it counts


def sliders(arch: Decoder, packed: Format | None = None) -> dict[str, Any]:
    """For JSON; see the module. `packed` is the format that its files have, where they are packed."""
    parts, plain = work(arch), setting_for(arch, 1, dtype=DTYPE)
    layers = [kept(arch, degree) for degree in DEGREES]
    formats: dict[str, Format] = {} if packed is None else {AS_STORED: packed}
    formats |= {name: weight_format(name, arch) for name in FORMATS}
    sized = {part.part: [_Sized(w, _sizes(w, formats), _shares(w.weight)) for w in part.weights] for part in parts}
    return {
        "model": arch.name,
        "context": arch.context,
        "degrees": list(DEGREES),
        "formats": {name: each.compute(DTYPE) for name, each in formats.items()},
        "bits": {name: bits(name) for name in (*STATES, "float32", "bfloat16")},
        "flops": _flops(arch),
        "state": _state(layers, CHUNK, POLICIES),
        "state_large": _state(layers, LARGE_CHUNK, BY_CHUNK),
        "state_per_token": {dtype: _growth(arch, dtype) for dtype in STATES},
        "weights": _weights(sized.values(), formats),
        "activations": _activations(arch, plain),
        "chunks": {"usual": CHUNK, "large": LARGE_CHUNK, "large_from": LARGE},
        "steps": [_step(part, sized[part.part]) for part in parts],
    }


def _flops(arch: Decoder) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """As `counting.flops` splits them: of each part, what a token takes, and what its mixers do."""
    products = flops([], counted(arch), 1, 1).by_part
    prefill: dict[str, list[Times]] = {part: [(partial(mul, n), 1)] for part, n in products["prefill"].items()}
    decode: dict[str, list[Times]] = {
        part: [(partial(_always, n), 1)] for part, n in products["decode_per_token"].items()
    }
    for part in work(arch):
        for mixer in part.mixers:
            if mixer.spec.flops(2, 2):
                prefill.setdefault(part.part, []).append((partial(_over_all, mixer.spec), mixer.count))
                decode.setdefault(part.part, []).append((mixer.spec.flops, 0 if mixer.encoder_side else mixer.count))
    return {
        phase: {part: curve(functions).to_list() for part, functions in split.items()}
        for phase, split in (("prefill", prefill), ("decode_per_token", decode))
    }


def _always(value: int, context: int) -> int:
    return value


def _over_all(spec: Spec, context: int) -> int:
    return spec.flops(context, tokens=context)


def _state(layers: Sequence[Layers], chunk: int, names: Iterable[str]) -> dict[str, dict[str, list[Any]]]:
    """From what is kept on one device, by degree."""
    distinct = {frozenset(each.items()): each for each in layers}  # heads are cut in so many parts and no more
    served = reserved(layers[0], 1, DTYPE).keys() & names

    def by_degree(policy: str, dtype: str) -> list[Any]:
        curves = {
            key: curve([(partial(_reserved, policy, each, dtype, chunk), 1)]).to_list()
            for key, each in distinct.items()
        }
        return [curves[frozenset(each.items())] for each in layers]

    found = {name: {dtype: by_degree(name, dtype) for dtype in STATES} for name in served}
    return {name: found[name] for name in POLICIES if name in served}


def _reserved(policy: str, layers: Layers, dtype: str, chunk: int, context: int) -> int:
    return reserved_by(policy, layers, context, dtype, chunk=chunk)


def _growth(arch: Decoder, dtype: str) -> int:
    states = [state for node, part in headed(arch) if part != MTP for state in node.spec.state().values()]
    return sum(stored(state.growth, state.dtype or dtype) for state in states)


@dataclass(frozen=True)
class _Sized:
    """Equal weights, their bytes by format and what one device holds of them by degree."""

    counted: Counted
    bytes: Mapping[str, int]
    shares: tuple[Fraction, ...]


def _sizes(weight: Counted, formats: Mapping[str, Format]) -> dict[str, int]:
    return {name: each.stored(weight, DTYPE) for name, each in formats.items()}


@lru_cache(4096)
def _shares(weight: Weight) -> tuple[Fraction, ...]:
    return tuple(share(weight.dimensions, degree) for degree in DEGREES)


def _weights(parts: Iterable[Iterable[_Sized]], formats: Iterable[str]) -> dict[str, list[int]]:
    """As `memory.weights_on_one` has them for each format."""
    found = {name: [0] * len(DEGREES) for name in formats}
    for weight in chain.from_iterable(parts):
        for name, size in weight.bytes.items():
            for i, some in enumerate(weight.shares):
                found[name][i] += -(-size * some.numerator // some.denominator)
    return found


def _activations(arch: Decoder, plain: Setting) -> dict[str, list[int]]:
    """From what one token and two tokens of one sequence take."""
    one, two = replace(plain, chunk=1), replace(plain, chunk=2, context=2)
    firsts = [activations(arch, one, Layout(tensor=degree), 1) for degree in DEGREES]
    token = [
        activations(arch, two, Layout(tensor=degree), 1) - first for degree, first in zip(DEGREES, firsts, strict=True)
    ]
    return {"token": token, "sequence": [first - each for first, each in zip(firsts, token, strict=True)]}


def _step(part: Work, weights: Iterable[_Sized]) -> dict[str, Any]:
    return {
        "part": part.part,
        "last": part.last,
        "products": {
            phase: [_number(part.products(prompt, degree)) for degree in DEGREES]
            for phase, prompt in (("prefill", True), ("decode", False))
        },
        "scores": _scores(part.mixers),
        "weights": _read_weights(weights),
        "state": _read_state(part.mixers),
        "reduce": _exchanged(part, "reduce"),
        "gather": _exchanged(part, "gather"),
    }


def _exchanged(part: Work, kind: str) -> dict[str, int]:
    sent = [each for each in part.sent if each.exchange.kind == kind and each.exchange.when != "spread"]
    return {
        phase: sum(each.count * each.exchange.channels for each in sent if prompt or not each.encoder_side)
        for phase, prompt in (("prefill", True), ("decode", False))
    }


def _scores(mixers: Iterable[Mixer]) -> list[dict[str, Any]]:
    groups: dict[tuple[Fraction, ...], list[Mixer]] = {}
    for mixer in mixers:
        if mixer.spec.flops(2, 2):
            groups.setdefault(tuple(cut(mixer.spec, degree) for degree in DEGREES), []).append(mixer)
    return [
        {
            "prefill": _sum(group, prefill_flops, prompt=True),
            "decode": _sum(group, decode_flops, prompt=False),
            "share": [_number(each) for each in shares],
        }
        for shares, group in groups.items()
    ]


def _read_weights(weights: Iterable[_Sized]) -> list[dict[str, Any]]:
    groups: dict[tuple[Any, ...], Counter[str]] = {}
    for each in weights:
        of, weight = each.counted, each.counted.weight
        rows = weight.shape[0] if weight.role == "table" else None
        groups.setdefault((min(of.uses, 1.0), rows, not of.encoder_side, each.shares), Counter()).update(each.bytes)
    return [
        {"bytes": dict(sizes), "uses": uses, "rows": rows, "decode": decode, "share": [_number(s) for s in shares]}
        for (uses, rows, decode, shares), sizes in groups.items()
    ]


def _read_state(mixers: Iterable[Mixer]) -> list[dict[str, Any]]:
    groups: dict[tuple[str | None, tuple[Fraction, ...]], list[Mixer]] = {}
    for mixer in mixers:
        for alike in dict.fromkeys(_alike(entry) for entry, _ in (*mixer.spec.reads(1), *written(mixer.spec, 1))):
            groups.setdefault(alike, []).append(mixer)
    return [
        {
            "dtype": alike[0],
            "read": _sum(group, partial(_of, lambda spec, context: spec.reads(context), alike), prompt=False),
            "written": _sum(group, partial(_of, written, alike), prompt=True),
            "share": [_number(each) for each in alike[1]],
        }
        for alike, group in groups.items()
    ]


def _alike(entry: StateEntry) -> tuple[str | None, tuple[Fraction, ...]]:
    """The dtype that the architecture fixes, and what one device holds by degree."""
    return entry.dtype, tuple(share(entry.dimensions, degree) for degree in DEGREES)


def _of(
    moved: Callable[[Spec, int], list[tuple[StateEntry, int]]],
    alike: tuple[str | None, tuple[Fraction, ...]],
    spec: Spec,
    context: int,
) -> int:
    return sum(elements for entry, elements in moved(spec, context) if _alike(entry) == alike)


def _sum(mixers: Iterable[Mixer], of: Callable[[Spec, int], int], prompt: bool) -> list[dict[str, Any]]:
    used = [mixer for mixer in mixers if prompt or not mixer.encoder_side]
    return curve([(partial(of, mixer.spec), mixer.count) for mixer in used]).to_list()


def _number(value: Fraction) -> int | float:
    return value.numerator if value.denominator == 1 else float(value)


# ------------------------------------------------------------------ what a page does with them


def at(terms: Iterable[Mapping[str, Any]], context: int) -> float:
    """A curve's value."""
    total = 0.0
    for term in terms:
        i = max(i for i, start in enumerate(term["breaks"]) if start <= context)
        x, value = context - term["breaks"][i], 0.0
        steps = term["steps"][i] if "steps" in term else []
        total += sum(height * (x // period) for period, height in steps)
        x = x % steps[0][0] if steps else x
        for coefficient in reversed(term["coefficients"][i]):
            value = value * x + coefficient
        total += value
    return total


def seconds(
    found: Mapping[str, Any],
    prompt: bool,
    context: int,
    batch: int,
    rates: Mapping[str, float],
    weights: str = "bf16",
    state: str = "bf16",
    devices: int = 1,
    chunk: int = CHUNK,
) -> dict[str, float]:
    """part -> seconds of a prefill or of a step of decoding, as `roofline` has them.

    Args:
        rates: what the device attains: "products" and "scores" per second, bytes per second of "memory" and "network"
            (the link, or between nodes where the devices are more than a node's).
    """
    d = found["degrees"].index(devices)
    phase = "prefill" if prompt else "decode"
    times = {}
    for part in found["steps"]:
        tokens = batch * context if prompt and not part["last"] else batch
        passes = -(-tokens // chunk)
        compute = tokens * part["products"][phase][d] / rates["products"]
        compute += sum(batch * at(s[phase], context) * s["share"][d] for s in part["scores"]) / rates["scores"]
        moved = 0.0
        for each in part["weights"]:
            if prompt or each["decode"]:
                some = (
                    min(tokens / passes / each["rows"], 1)
                    if each["rows"]
                    else 1 - (1 - each["uses"]) ** (tokens / passes)
                )
                moved += passes * each["bytes"][weights] * each["share"][d] * some
        for each in part["state"]:
            size = at(each["written" if prompt else "read"], context) * found["bits"][each["dtype"] or state] / 8
            moved += batch * size * each["share"][d]
        sent = tokens * 2 * (devices - 1) / devices * (2 * part["reduce"][phase] + part["gather"][phase])
        times[part["part"]] = max(compute, moved / rates["memory"], sent / rates["network"])
    return times
