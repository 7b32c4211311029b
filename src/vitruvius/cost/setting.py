"""What a cost is asked for: lengths, formats, device and how the model is spread over several."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from os import PathLike

from ..errors import InputError
from ..sharding import Layout, whole
from ..spec import Decoder
from .devices import THIS_MACHINE, Device
from .devices import device as device_named
from .dtypes import bits
from .formats import Format, has_experts, weight_format
from .offload import Offload
from .policies import CHUNK, Serving, policy_named
from .state_formats import of_keys_and_values

NO_OPTIONS = Serving()
LARGE, LARGE_CHUNK = 70 * 10**9, 8192  # vLLM's server takes larger steps where there is much memory


def tokens(text: str) -> int:
    """A number of tokens: 131072, 131,072, 128k (k = 1,024) or 1M (M = 1,024²). Raises InputError for others."""
    match = re.fullmatch(r"(\d{1,15})([km]?)", re.sub(r"[,_]", "", text).casefold(), re.ASCII)
    if not match or not int(match[1]):
        raise InputError(f"{text!r} is not a number of tokens such as 131072, 128k or 1M")
    return int(match[1]) * {"": 1, "k": 1024, "m": 1024**2}[match[2]]


@dataclass(frozen=True)
class Attained:
    """Fractions of a device's peaks that a program is assumed to attain, each above 0 and at most 1.

    The defaults are what well-tuned engines are commonly measured at: estimates, to be set where one knows better.
    """

    compute: float = 0.6
    bandwidth: float = 0.8
    network: float = 0.7

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if type(value) not in (int, float) or not 0 < value <= 1:
                raise InputError(f"the attained fraction of {each.name} must be above 0 and at most 1, got {value!r}")

    @classmethod
    def of(cls, device: Device) -> Attained:
        """The usual fractions; all of it on this machine, whose peaks are measured."""
        return cls(1.0, 1.0, 1.0) if device.name == THIS_MACHINE else cls()


@dataclass(frozen=True)
class Setting:
    """Everything that a cost depends on beside the architecture.

    Args:
        context: tokens of each sequence.
        batch: sequences at once, over all devices.
        dtype: of activations, and of what has no other.
        weights: the format that weights are stored in.
        state: the format of state, a name of `state_formats.NAMES` or "k=…,v=…".
        serving: options of the engine that the policy is of.
        policy: how an engine accounts for state, a name of `policies.POLICIES`.
        chunk: the most tokens that pass through the layers at once.
        device: None where only bytes and operations are asked for.
        offload: the weights that lie in the processor's memory.
    """

    context: int
    batch: int
    dtype: str
    weights: Format
    state: str
    policy: str
    chunk: int
    device: Device | None
    layout: Layout
    attained: Attained
    serving: Serving = NO_OPTIONS
    offload: Offload | None = None


def setting_for(
    arch: Decoder,
    context: int | None = None,
    batch: int = 1,
    dtype: str = "bf16",
    device: str | Device | None = None,
    devices: int | None = None,
    *,
    weights: str | Format | None = None,
    state: str | None = None,
    policy: str = "minimum",
    chunk: int | None = None,
    layout: Layout | None = None,
    attained: Attained | None = None,
    prefix_caching: bool = False,
    speculative: int = 0,
    draft: bool = False,
    offload: str | Offload | None = None,
    devices_file: str | PathLike[str] | None = None,
) -> Setting:
    """What is asked, checked.

    Args:
        context, batch, dtype, device, devices: as in `cost`.
        weights: a format of `formats.NAMES`, or one; by default `dtype` for all.
        state: the format of state (f32, bf16, fp8_e4m3, q8_0, q4_0, nvfp4 …), of keys and values apart with
            "k=q8_0,v=q4_0"; by default `dtype`.
        policy: how state is accounted for in `memory`: a name of `policies.POLICIES`.
        chunk: the most tokens that pass through the layers at once; by default 8,192 on a GPU of 70 GB and more, else
            2,048, as in vLLM's server.
        layout: how the model lies on several devices, where `devices` does not say enough.
        attained: the fractions of the device's peaks that are assumed.
        prefix_caching: whether the engine keeps the states of prompts for others that begin alike (vLLM).
        speculative: tokens that the engine drafts in a step (vLLM).
        draft: whether the layers for multi-token prediction draft them: their weights and state count then. Work and
            time are those without drafts all the same.
        offload: the weights that lie in the processor's memory: "experts", "layers", or the first so many layers'
            ("experts:20"), or an `Offload`, which also says at what rate they are read.
        devices_file: a file of devices beside the packaged ones.
    """
    context = arch.context if context is None else context
    found = None if device is None else device_named(device, devices_file)
    large = found is not None and found.kind == "gpu" and found.capacity >= LARGE
    chunk = (LARGE_CHUNK if large else CHUNK) if chunk is None else chunk
    for name, value in (("context", context), ("batch", batch), ("chunk", chunk)):
        whole(name, value)
    bits(dtype)
    of_keys_and_values(state or dtype)
    if type(speculative) is not int or speculative < 0:
        raise InputError(f"speculative tokens must be a whole number from 0 on, got {speculative!r}")
    policy_named(policy)
    if draft and not arch.mtp:
        raise InputError(f"{arch.name} has no layers for multi-token prediction that could draft")
    found_layout = _layout(devices, layout)
    if found_layout.pipeline > len(arch.layers):
        raise InputError(f"{len(arch.layers)} layers cannot fill {found_layout.pipeline} stages of a pipeline")
    return Setting(
        context=context,
        batch=batch,
        dtype=dtype,
        weights=weight_format(weights or dtype, arch) if isinstance(weights, str | None) else weights,
        state=(state or dtype).casefold(),
        policy=policy,
        chunk=chunk,
        device=found,
        layout=found_layout,
        attained=attained or (Attained() if found is None else Attained.of(found)),
        serving=Serving(prefix_caching, speculative, draft),
        offload=_offload(arch, offload),
    )


def _offload(arch: Decoder, asked: str | Offload | None) -> Offload | None:
    found = Offload.named(asked) if isinstance(asked, str) else asked
    if found and found.layers and found.layers > len(arch.layers):
        raise InputError(f"{found.layers} layers cannot lie in the processor's memory: there are {len(arch.layers)}")
    if found and found.kind == "experts" and not has_experts(arch):
        raise InputError(f"{arch.name} has no experts that could lie in the processor's memory; say layers")
    return found


def _layout(devices: int | None, layout: Layout | None) -> Layout:
    if devices is not None:
        whole("devices", devices)
    if layout is None:
        return Layout(tensor=devices or 1)
    if devices is not None and devices != layout.devices:
        raise InputError(f"the layout takes {layout.devices} devices, not {devices}")
    return layout
