"""What `vitruvius cost --training` takes and prints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from . import options

NAMES = ("tokens", "sequence", "micro_batch", "zero", "checkpointing", "optimizer", "recipe", "mfu", "price", "lora")


def training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of a training run."""
    for option in reversed(
        (
            click.option("--training", is_flag=True, help="Also what it costs to train it."),
            click.option("--tokens", type=options.Count(), help="Trained on: 15T. Default: 20 for each parameter."),
            click.option("--sequence", type=options.Tokens(), help="Tokens of a training sequence. Default: 4k."),
            click.option("--micro-batch", type=click.IntRange(1), help="Sequences that a device trains on at once."),
            click.option(
                "--zero", type=click.IntRange(0, 3), help="ZeRO's stage among the groups of --data; 3 is FSDP."
            ),
            click.option(
                "--checkpointing", is_flag=True, help="Run layers forward again instead of keeping activations."
            ),
            click.option("--optimizer", type=click.Choice(["adamw", "muon"]), help="Default: adamw."),
            click.option("--recipe", help="mixed (16 bytes a parameter), mixed-f32-gradients, deepseek-v3, bf16, f32."),
            click.option("--mfu", type=float, help="The share of the peak that training attains. Default: 0.4."),
            click.option(
                "--lora", type=click.IntRange(1), metavar="RANK", help="Train adapters only; QLoRA with --weights nf4."
            ),
            click.option("--price", type=float, help="Dollars for an hour of a device."),
        )
    ):
        command = option(command)
    return command


def taken(asked: dict[str, Any]) -> dict[str, Any]:
    """Takes the options of a training run out of all that was asked."""
    return {name: value for name in NAMES if (value := asked.pop(name)) is not None}
