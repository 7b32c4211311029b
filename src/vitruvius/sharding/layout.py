"""How a model lies on many devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from ..errors import InputError

MeshDimension = Literal["pipeline", "data", "context", "tensor", "expert"]


@dataclass(frozen=True)
class Layout:
    """How a model lies on `pipeline` · `data` · `context` · `tensor` devices.

    Args:
        tensor: devices among which matrices and heads are cut (Megatron-LM, arXiv 1909.08053).
        data: groups of devices, each with its share of the batch.
        experts: "cut" like other matrices, or whole: "spread" over all devices of a stage, or over so many of them
            (expert parallel, GShard, arXiv 2006.16668).
        context: devices among which the tokens of a sequence are cut (ring attention, arXiv 2310.01889).
        pipeline: stages of consecutive layers (GPipe, arXiv 1811.06965).
    """

    tensor: int = 1
    data: int = 1
    experts: Literal["cut", "spread"] | int = "cut"
    context: int = 1
    pipeline: int = 1

    def __post_init__(self) -> None:
        for name in ("tensor", "data", "context", "pipeline"):
            whole(name, getattr(self, name))
        if self.experts in ("cut", "spread"):
            return
        if type(self.experts) is not int or self.experts < 1 or self.stage % self.experts:
            raise InputError(
                f'experts are "cut", "spread", or whole over so many devices that divide the {self.stage} of a stage,'
                f" got {self.experts!r}"
            )

    @property
    def devices(self) -> int:
        """How many there are."""
        return self.pipeline * self.stage

    @property
    def stage(self) -> int:
        """Devices of one stage of the pipeline."""
        return self.data * self.context * self.tensor

    @property
    def spread(self) -> int | None:
        """The devices that whole experts are spread over; None where experts are cut."""
        if self.experts == "cut":
            return None
        return self.stage if self.experts == "spread" else int(self.experts)

    def bubble(self, micro_batches: int) -> Fraction:
        """The share of a training step in which a stage of the pipeline waits, where `micro_batches` pass through it
        one forward, one backward: (p − 1) / (m + p − 1) (Narayanan et al. 2021, arXiv 2104.04473, section 2.2.1: of
        the time without waiting it is (p − 1) / m)."""
        whole("micro-batches", micro_batches)
        return Fraction(self.pipeline - 1, micro_batches + self.pipeline - 1)

    @property
    def mesh(self) -> Mapping[MeshDimension, int]:
        """Dimension -> how many devices, of those that have several; the experts' devices are those of others."""
        sizes: dict[MeshDimension, int] = {"pipeline": self.pipeline, "data": self.data, "context": self.context}
        sizes |= {"tensor": self.tensor, "expert": self.spread or 1}
        return {name: size for name, size in sizes.items() if size > 1}


def whole(name: str, value: object) -> None:
    """Raises InputError unless `value` is a whole number from 1 on."""
    if type(value) is not int or value < 1:
        raise InputError(f"{name} must be a whole number from 1 on, got {value!r}")
