"""How a model knows where a token stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor, log, pi
from typing import ClassVar

from .base import Axis, Size, Spec, Weight, width_axis

Frequencies = tuple[float, ...]  # radians per position of each pair of channels


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

    def scaled(self, plain: Frequencies, rope: RoPE) -> Frequencies:
        """The frequencies that it makes of those without it."""
        return tuple(f / self.factor for f in plain)


@dataclass(frozen=True, kw_only=True)
class Llama3Scaling(Spec):
    """Long wavelengths divided by `factor`, short ones kept, in between mixed linearly (Llama 3.1, section 3.3)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: Size

    def check(self) -> None:
        _between(self, 0, "factor")

    def scaled(self, plain: Frequencies, rope: RoPE) -> Frequencies:
        """See `LinearScaling.scaled`."""
        low, high = self.low_freq_factor, self.high_freq_factor

        def mixed(f: float) -> float:
            turns = self.original_context * f / (2 * pi)  # rotations within the original context
            if not low < turns < high:
                return f if turns >= high else f / self.factor
            smooth = (turns - low) / (high - low)
            return (1 - smooth) * f / self.factor + smooth * f

        return tuple(map(mixed, plain))


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

    def scaled(self, plain: Frequencies, rope: RoPE) -> Frequencies:
        """See `LinearScaling.scaled`."""
        low, high = self.pairs(rope)
        ramp = (min(max((pair - low) / (high - low), 0.0), 1.0) for pair in range(len(plain)))
        return tuple(f / self.factor * r + f * (1 - r) for f, r in zip(plain, ramp, strict=True))

    def pairs(self, rope: RoPE) -> tuple[float, float]:
        """The pairs of channels between which it goes from keeping a frequency to interpolating it."""

        def pair(rotations: float) -> float:
            """The pair that makes this many rotations within the original context."""
            return rope.dim * log(self.original_context / (rotations * 2 * pi)) / (2 * log(rope.theta))

        low, high = pair(self.beta_fast), pair(self.beta_slow)
        if self.truncate:
            low, high = floor(low), ceil(high)
        low, high = max(low, 0), min(high, rope.dim - 1)
        return low, high if high != low else high + 0.001


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

    def scaled(self, plain: Frequencies, rope: RoPE) -> Frequencies:
        """See `LinearScaling.scaled`."""
        turning = int(self.share * rope.dim // 2)
        return tuple(f / self.factor if pair < turning else 0.0 for pair, f in enumerate(plain))


@dataclass(frozen=True, kw_only=True)
class LongRoPE(Spec):
    """Each pair's frequency divided by a factor of its own, which a search has found; cos and sin times
    `attention_factor`. Ding et al. 2024, arXiv 2402.13753."""

    factors: tuple[float, ...]
    original_context: Size
    attention_factor: float = 1.0

    def check(self) -> None:
        for factor in self.factors:
            if not 0 < factor <= 1e9:
                raise ValueError(f"LongRoPE.factors must be positive numbers, at most 1e9, got {factor}")

    def scaled(self, plain: Frequencies, rope: RoPE) -> Frequencies:
        """See `LinearScaling.scaled`."""
        return tuple(f / factor for f, factor in zip(plain, self.factors, strict=True))


Scaling = LinearScaling | Llama3Scaling | YaRN | LongRoPE | Proportional


@dataclass(frozen=True, kw_only=True)
class Sections(Spec):
    """Positions with several axes, as those of a picture have time, height and width: each pair of channels turns by
    one of them. A token of text stands at the same place on all. M-RoPE (Qwen2-VL, arXiv 2409.12191, section 2.1).

    Args:
        sizes: pairs of channels for each axis.
        interleaved: one pair for each axis in turn, until an axis has as many as it gets, and the first takes what is
            left (Qwen3-VL, arXiv 2511.21631); otherwise one section after the other.
    """

    sizes: tuple[int, ...]
    interleaved: bool = False

    def check(self) -> None:
        if not self.sizes or min(self.sizes) < 0:
            raise ValueError(f"Sections.sizes are pairs of channels for each axis of a position, got {self.sizes}")

    def axes(self) -> tuple[int, ...]:
        """For each pair of channels, which axis it turns by."""
        count = len(self.sizes)
        if not self.interleaved:
            return tuple(axis for axis, size in enumerate(self.sizes) for _ in range(size))
        return tuple(pair % count if pair // count < self.sizes[pair % count] else 0 for pair in range(sum(self.sizes)))


@dataclass(frozen=True, kw_only=True)
class RoPE(Spec):
    """Rotary positions over the first `dim` channels of each head. Su et al. 2021, arXiv 2104.09864.

    `interleaved` pairs neighbouring channels (2i, 2i+1), as in the paper; otherwise channel i is paired with i + dim/2,
    as in GPT-NeoX and most checkpoints on the hub. `sections` are those of positions with several axes.
    """

    theta: float
    dim: Size
    interleaved: bool = False
    scaling: Scaling | None = None
    sections: Sections | None = None

    def check(self) -> None:
        if self.dim % 2:
            raise ValueError(f"RoPE rotates pairs of channels, so its dim must be even, got {self.dim}")
        if self.theta <= 0:
            raise ValueError(f"RoPE.theta must be positive, got {self.theta}")
        if isinstance(self.scaling, LongRoPE) and len(self.scaling.factors) != self.dim // 2:
            raise ValueError(f"LongRoPE has {len(self.scaling.factors)} factors for {self.dim // 2} pairs of channels")
        if self.sections and sum(self.sections.sizes) != self.dim // 2:
            raise ValueError(f"RoPE.sections must be of {self.dim // 2} pairs of channels, got {self.sections.sizes}")
        if self.theta == 1 and isinstance(self.scaling, YaRN):
            raise ValueError(
                "RoPE.theta must not be 1, as all frequencies are then the same, and YaRN tells them apart"
            )

    def frequencies(self) -> Frequencies:
        """Radians per position of each of the `dim` / 2 pairs of channels, θ^(−2i / dim) as they are scaled."""
        plain = tuple(self.theta ** (-2 * pair / self.dim) for pair in range(self.dim // 2))
        return self.scaling.scaled(plain, self) if self.scaling else plain

    @property
    def attention_factor(self) -> float:
        """What cosines and sines are multiplied by."""
        return self.scaling.attention_factor if isinstance(self.scaling, YaRN | LongRoPE) else 1.0
