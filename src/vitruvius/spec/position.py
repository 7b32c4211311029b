"""How a model knows where a token stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import ClassVar

from .base import Axis, Size, Spec, Weight, width_axis


def _between(spec: Spec, least: float, *names: str) -> None:
    """Refuses fields that are not above `least`, or so large that no scaling means them."""
    for name in names:
        if not least < (value := getattr(spec, name)) <= 1e9:
            raise ValueError(f"{type(spec).__name__}.{name} must be a positive number, at most 1e9, got {value}")


@dataclass(frozen=True, kw_only=True)
class LearnedPositions(Spec):
    """A vector for each absolute position, added to the token's embedding (GPT-2)."""

    count: Size

    unpacked: ClassVar[bool] = True
    quantized: ClassVar[Mapping[str, str | None]] = {"weight": None}

    def weights(self, width: int) -> dict[str, Weight]:
        return {"weight": Weight(((Axis("positions", self.count, cut="replicated"),), width_axis(width)), role="table")}


@dataclass(frozen=True, kw_only=True)
class LinearScaling(Spec):
    """All frequencies divided by `factor`. Chen et al. 2023, arXiv 2306.15595."""

    factor: float

    def check(self) -> None:
        _between(self, 0, "factor")


@dataclass(frozen=True, kw_only=True)
class Llama3Scaling(Spec):
    """Long wavelengths divided by `factor`, short ones kept, in between mixed linearly (Llama 3.1, section 3.3)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: Size

    def check(self) -> None:
        _between(self, 0, "factor")


@dataclass(frozen=True, kw_only=True)
class YaRN(Spec):
    """Frequencies interpolated by ramps over wavelengths; cos and sin times `attention_factor`.

    Peng et al. 2023, arXiv 2309.00071. `truncate` rounds the ramp's ends to whole dimensions.
    """

    factor: float
    original_context: Size
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 1.0
    truncate: bool = True

    def check(self) -> None:
        _between(self, 0, "factor")
        _between(self, 1e-6, "beta_fast", "beta_slow")  # rotations


def yarn_mscale(factor: float, mscale: float = 1.0) -> float:
    """0.1 · mscale · ln(factor) + 1: how YaRN keeps the scores' entropy (arXiv 2309.00071, section 3.4)."""
    return 1.0 if factor <= 1 else 0.1 * mscale * log(factor) + 1.0


@dataclass(frozen=True, kw_only=True)
class Proportional(Spec):
    """Only the first `share` of the pairs turn, with the frequencies that they have among all, divided by `factor`; the
    others carry no position (Gemma 4's p-RoPE; Barbero et al. 2024, arXiv 2410.06205)."""

    share: float
    factor: float = 1.0

    def check(self) -> None:
        _between(self, 0, "factor")


Scaling = LinearScaling | Llama3Scaling | YaRN | Proportional


@dataclass(frozen=True, kw_only=True)
class RoPE(Spec):
    """Rotary positions over the first `dim` channels of each head. Su et al. 2021, arXiv 2104.09864.

    `interleaved` pairs neighbouring channels (2i, 2i+1), as in the paper; otherwise channel i is paired with i + dim/2,
    as in GPT-NeoX and most checkpoints on the hub.
    """

    theta: float
    dim: Size
    interleaved: bool = False
    scaling: Scaling | None = None

    def check(self) -> None:
        if self.dim % 2:
            raise ValueError(f"RoPE rotates pairs of channels, so its dim must be even, got {self.dim}")
        if self.theta <= 0:
            raise ValueError(f"RoPE.theta must be positive, got {self.theta}")
        if self.theta == 1 and isinstance(self.scaling, YaRN):
            raise ValueError(
                "RoPE.theta must not be 1, as all frequencies are then the same, and YaRN tells them apart"
            )
