"""What is made of the last hidden states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from .base import Axis, Exchange, Size, Spec, Weight, vector, width_axis


@dataclass(frozen=True, kw_only=True)
class Head(Spec):
    """softcap(scale · (x Wᵀ + b)): a logit for each token."""

    vocab: Size
    softcap: float | None = None
    scale: float = 1.0
    bias: bool = False

    part: ClassVar[str] = "head"
    unpacked: ClassVar[bool] = True
    quantized: ClassVar[Mapping[str, str | None]] = {"weight": "head"}

    @property
    def outputs(self) -> int:
        return self.vocab

    def weights(self, width: int) -> dict[str, Weight]:
        rows = (Axis("vocab", self.vocab, cut="vocabulary"),)
        bias = {"bias": vector(rows, initial=0.0)} if self.bias else {}
        return {"weight": Weight((rows, width_axis(width))), **bias}

    def exchanges(self, width: int) -> tuple[Exchange, ...]:
        return (Exchange("gather", self.vocab),)


@dataclass(frozen=True, kw_only=True)
class Classifier(Spec):
    """x Wᵀ + b: a score for each label, after each token. Of a text as a whole those after its last token count, which
    has seen all of it (transformers, modeling_layers.py, GenericForSequenceClassification)."""

    labels: Size
    bias: bool = False

    part: ClassVar[str] = "head"
    unpacked: ClassVar[bool] = True

    @property
    def outputs(self) -> int:
        return self.labels

    def weights(self, width: int) -> dict[str, Weight]:
        rows = (Axis("labels", self.labels, cut="replicated"),)
        bias = {"bias": vector(rows, initial=0.0)} if self.bias else {}
        return {"weight": Weight((rows, width_axis(width))), **bias}
