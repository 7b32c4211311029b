"""How the learning rate goes over a run, as a factor of the one that is asked for: plain functions of the step."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi

from ..errors import InputError

Schedule = Callable[[int], float]

SHAPES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + cos(pi * done)),  # Loshchilov & Hutter 2016, arXiv 1608.03983
    "wsd": lambda done: 1.0 - done,  # warm-up, stable, decay: MiniCPM, arXiv 2404.06395
}


def schedule(name: str, steps: int, warmup: int = 0, decay: float = 0.2, floor: float = 0.0) -> Schedule:
    """The factor of the learning rate at each step, counted from 0.

    Args:
        name: "wsd" stays at 1 until the last share `decay` of the steps and goes down linearly there; "cosine" and
            "linear" go down from the end of the warm-up on; "constant" stays.
        steps: of the whole run.
        warmup: steps in which the factor rises linearly to 1; the first step has 1/warmup.
        floor: what it goes down to.

    It fits `torch.optim.lr_scheduler.LambdaLR`. Raises InputError for what cannot be.
    """
    if name not in SHAPES:
        raise InputError(f"schedule {name!r} is not known: it is one of {', '.join(SHAPES)}")
    for what, value, least in (("steps", steps, 1), ("warmup", warmup, 0)):
        if type(value) is not int or value < least:
            raise InputError(f"{what} must be a whole number from {least} on, got {value!r}")
    if warmup >= steps and warmup:
        raise InputError(f"the warm-up of {warmup} steps must be shorter than the run of {steps}")
    for what, share in (("decay", decay), ("floor", floor)):
        if not 0.0 <= share <= 1.0:
            raise InputError(f"the schedule's {what} must lie between 0 and 1, got {share!r}")
    shape = SHAPES[name]
    begins = max(warmup, steps - round(decay * steps)) if name == "wsd" else warmup

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = min(max(step - begins, 0) / max(steps - begins, 1), 1.0)
        return floor + (1.0 - floor) * shape(done)

    return factor
