"""A trace of some steps, and what they spend their time on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

AFTER, STEPS = 2, 3  # the steps that are profiled: some, when the first ones have passed
SHARE = 0.9  # of the time that the table covers


class Profile:
    """Looks at steps 3 to 5 of this process.

    Args:
        folder: where trace.json (for ui.perfetto.dev) and table.txt go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.passed = folder, 0
        kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
        self.profiler = profile(activities=kinds)

    def before(self) -> None:
        """Called before each step."""
        if self.passed == AFTER:
            self.profiler.start()

    def after(self) -> bool:
        """Called after each step. Returns whether the files have been written just now."""
        self.passed += 1
        if self.passed != AFTER + STEPS:
            return False
        self.profiler.stop()
        self.folder.mkdir(exist_ok=True)
        self.profiler.export_chrome_trace(str(self.folder / "trace.json"))
        (self.folder / "table.txt").write_text(table(self.profiler), "utf-8")
        return True


def table(profiler: Any) -> str:
    """The most expensive operations, as many as take 90 % of the time: milliseconds of a step, share, calls."""
    found = profiler.key_averages()
    on_device = any(event.self_device_time_total for event in found)

    def own(event: Any) -> float:
        return float(event.self_device_time_total if on_device else event.self_cpu_time_total)

    whole, covered = sum(map(own, found)), 0.0
    lines = [f"{'ms a step':>10}  {'share':>6}  {'calls':>6}  operation"]
    for event in sorted(found, key=own, reverse=True):
        lines.append(
            f"{own(event) / 1000 / STEPS:10.2f}  {own(event) / whole:6.1%}  {event.count // STEPS:6}  {event.key}"
        )
        covered += own(event)
        if covered >= SHARE * whole:
            break
    return "\n".join(lines) + "\n"
