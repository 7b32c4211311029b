"""Figures as people read them: counts in powers of ten, bytes in powers of two."""

from __future__ import annotations

_COUNTS = ("", " K", " M", " B", " T", " P", " E", " Z")
_FLOPS = (" FLOP", " kFLOP", " MFLOP", " GFLOP", " TFLOP", " PFLOP", " EFLOP", " ZFLOP")
_BYTES = (" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB")


def count(value: int) -> str:
    """27009346304 -> "27.0 B": thousands, millions, billions (10⁹), trillions."""
    return _scaled(value, 1000, _COUNTS)


def flops(value: int) -> str:
    """76400000000 -> "76.4 GFLOP"."""
    return _scaled(value, 1000, _FLOPS)


def ratio(value: float) -> str:
    """0.8729 -> "× 0.87", 64.53 -> "× 64.5"."""
    if 0 < value < 0.01:
        return f"× {value:.2g}"
    return f"× {value:.2f}" if value < 9.995 else f"× {value:,.1f}" if value < 99.95 else f"× {value:,.0f}"


def size(value: int) -> str:
    """66571993088 bytes -> "62.0 GiB"."""
    return _scaled(value, 1024, _BYTES)


def number(value: float) -> str:
    """In full: "262,208", "0.0884", "1e-06"."""
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4g}"


def _scaled(value: int, base: int, units: tuple[str, ...]) -> str:
    """At least three digits are significant: 1.03 T, 27.0 B, 671 B."""
    scaled, unit = float(value), units[0]
    for unit in units:
        if abs(scaled) < base * 0.9995 or unit == units[-1]:
            break
        scaled /= base
    if unit == units[0]:
        return f"{value:,}{unit}"
    decimals = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
    return f"{scaled:,.{decimals}f}{unit}"
