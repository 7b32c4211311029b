"""Loading and building models: where specs, checkpoints and modules meet."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .checkpoints import matching
from .checkpoints.checkpoint import Checkpoint
from .checkpoints.defaults import Defaults
from .checkpoints.reading import read
from .checkpoints.safetensors import RAW
from .checkpoints.sources import Source, architecture, config_of
from .checkpoints.stored import PLAIN, Stored
from .errors import InputError
from .spec import Decoder as Spec
from .spec import Tensors

if TYPE_CHECKING:
    import torch

    from .checkpoints.stored import Container
    from .nn import Decoder
    from .nn.initial import Initial

T = TypeVar("T")
Progress = Callable[[Iterable[T], int], Iterable[T]]  # (items, how many) -> the same items, shown as they pass


@dataclass(frozen=True)
class Origin:
    """The checkpoint that a model was loaded from, and how its tensors became the model's."""

    checkpoint: Checkpoint
    plan: matching.LoadPlan


def load(
    source: str | os.PathLike[str],
    dtype: str | torch.dtype = "float32",
    device: str = "cpu",
    quantize: str | None = None,
    ignore: Collection[str] = (),
    mtp: bool = False,
    progress: Progress[Any] = lambda items, count: items,
) -> Decoder:
    """A model with the weights of a checkpoint.

    Args:
        source: a folder, a .gguf file, a catalog name whose weights are at hand, or a hub id.
        dtype: of the weights; "checkpoint" keeps each tensor as it is stored.
        device: where they go.
        quantize: not supported yet; must be None.
        ignore: config keys or tensor names (patterns) that a fine-tune adds and that may be left out.
        mtp: whether to load the layers for multi-token prediction too, where the model has any.
        progress: wraps the tensors that are read, to show how far it is.

    Raises InputError, in one line, for what cannot be found, does not match, or does not fit into memory.
    """
    import torch

    from .nn.model import assign, check_memory, dtype_of, own_dtype, skeleton, weights_of

    if quantize is not None:
        raise InputError(f"quantize={quantize!r} is not supported yet; load in float32 or bfloat16")
    checkpoint = Checkpoint.open(source, ignore)
    decoder = checkpoint.spec if mtp else replace(checkpoint.spec, mtp=())
    kind = None if dtype == "checkpoint" else dtype_of(dtype)
    check_memory(decoder, kind or dtype_of("bfloat16"), device)
    plan, container = checkpoint.plan(ignore, mtp), checkpoint.tensors
    model, declared = skeleton(decoder), weights_of(decoder)
    for entry in progress(plan.entries, len(plan.entries)):
        packed = entry.theirs[0] in container.packed
        for name, value in _tensors(entry, container):
            kept = torch.bfloat16 if packed else value.dtype  # what they were packed from
            wanted = own_dtype(declared[name][0], kind) if kind else kept
            # a copy, so that the model does not lean on the file's memory, which may change
            assign(model, name, value.to(device, wanted, copy=True).contiguous())
    model.eos, model.decoder_start = frozenset(checkpoint.defaults.eos), checkpoint.defaults.decoder_start
    model.origin = Origin(checkpoint, plan)
    return model.eval()


def _tensors(entry: Tensors, container: Container) -> Iterator[tuple[str, torch.Tensor]]:
    """The model's tensors of an entry; they may lie in the file's memory."""
    import torch

    found = [(name, copy, _tensor(stored, entry.theirs[0])) for name, copy, stored in read(entry, container)]
    if found[0][1] is not None:  # one for each copy
        yield found[0][0], torch.stack([value for _, _, value in found])
    else:
        yield from ((name, value) for name, _, value in found)


def _tensor(stored: Stored, name: str) -> torch.Tensor:
    """The numbers of a tensor of the file that is called `name`: in the file's dtype, those of blocks in float32."""
    if stored.kind in PLAIN:
        return shared(stored)
    if stored.kind in RAW:
        raise InputError(f"{name} holds {stored.kind}, which cannot be loaded yet")
    return shared(Stored("F32", stored.floats()))


def shared(stored: Stored) -> torch.Tensor:
    """A tensor in the memory of an array that is not in blocks."""
    import torch

    array = np.require(stored.array, requirements=["C", "ALIGNED"])  # files may have a tensor at any byte
    with warnings.catch_warnings():  # the file's memory is read-only, and nobody writes into it
        warnings.simplefilter("ignore", UserWarning)
        value = torch.from_numpy(array)
    return value.view(getattr(torch, VIEWED[stored.kind])) if stored.kind in VIEWED else value


# what numpy has no dtype for
VIEWED = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu"}


def build(
    source: Source, seed: int = 0, dtype: str | torch.dtype = "float32", device: str = "cpu", mtp: bool = False
) -> Decoder:
    """A model with random weights, as its family begins: matrices normal with the config's `initializer_range` (0.02
    where there is none, as for an edited tree), those that write to the residual stream narrower where GPT-2 and
    `rescale_prenorm_residual` have it so.

    Args:
        source: a spec, or anything that `architecture` takes.
        seed: of the random numbers, which do not depend on the device.
        dtype: of the weights.
        device: where they go.
        mtp: whether to build the layers for multi-token prediction too, where the model has any.

    Raises InputError if the weights would not fit into memory.
    """
    from .nn.model import build as build_spec

    decoder = architecture(source)
    config = config_of(decoder) or {}
    model = build_spec(decoder if mtp else replace(decoder, mtp=()), seed, dtype, device, _initial(decoder, config))
    defaults = Defaults.of(Path("config.json"), config)
    model.decoder_start = defaults.decoder_start
    return model


def _initial(decoder: Spec, config: Mapping[str, Any]) -> Initial:
    """What the config says of untrained matrices."""
    from .nn.initial import Initial

    text = config.get("text_config")
    said = {**config, **(text if isinstance(text, Mapping) else {})}
    deviation = said.get("initializer_range")
    residual = decoder.family == "gpt2" or said.get("rescale_prenorm_residual") is True
    return Initial(deviation if isinstance(deviation, float) and 0 < deviation < 10 else 0.02, residual)
