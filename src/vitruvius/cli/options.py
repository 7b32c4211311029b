"""Arguments and options that several verbs share."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import click

from ..errors import InputError


class Tokens(click.ParamType[int]):
    """A number of tokens: 131072, 131,072, 128k (k = 1,024) or 1M (M = 1,024²)."""

    name = "tokens"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number. Anything else is a usage error."""
        if isinstance(value, int):
            return value
        from ..cost.setting import tokens

        try:
            return tokens(str(value))
        except InputError as error:
            self.fail(str(error), param, ctx)


class Count(click.ParamType[int]):
    """A number in powers of ten: 15T, 300B, 1.5e12 or 15,000,000,000,000."""

    name = "count"
    units: ClassVar[dict[str, int]] = {"": 0, "k": 3, "m": 6, "b": 9, "t": 12}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number. Anything else is a usage error."""
        if isinstance(value, int):
            return value
        plain = re.sub(r"[,_]", "", str(value)).casefold()
        match = re.fullmatch(r"(\d{1,15})(?:\.(\d{1,12}))?(?:e\+?(\d{1,2})|([kmbt]?))", plain, re.ASCII)
        if not match:
            self.fail(f"{value!r} is not a number such as 15T, 300B or 1.5e12", param, ctx)
        whole, decimals, power, unit = match[1], match[2] or "", match[3], match[4] or ""
        shift = (int(power) if power else self.units[unit]) - len(decimals)
        number = int(whole + decimals) * 10**shift if shift >= 0 else int(whole + decimals) // 10**-shift
        if number < 1:
            self.fail(f"{value!r} is less than one", param, ctx)
        return number


class Bytes(click.ParamType[int]):
    """A size of memory: 24GiB, 24G (2³⁰), 80GB (10⁹), 512MiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The bytes. Anything else is a usage error."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)\s*([kmgt])(i?b?)", str(value).casefold(), re.ASCII)
        if not match or not float(match[1]):
            self.fail(f"{value!r} is not a size such as 24GiB, 80GB or 512MiB", param, ctx)
        base, power = (1000 if match[3] == "b" else 1024), "kmgt".index(match[2]) + 1
        return round(float(match[1]) * base**power)


model = click.argument("model")
ignore_key = click.option(
    "--ignore-key", "ignore", multiple=True, metavar="NAME", help="A key or tensor that a fine-tune adds, to leave out."
)
context = click.option(
    "-c",
    "--context",
    type=Tokens(),
    help="Tokens of a sequence; 128k is 131,072. Default: the longest that the model takes.",
)
batch = click.option("-b", "--batch", type=click.IntRange(1), default=1, show_default=True, help="Sequences at once.")
dtype = click.option("--dtype", default="bf16", show_default=True, help="f32, bf16, f16, fp8, int8, int4 …")
stored_dtype = click.option(
    "--dtype", help="Of activations and state: f32, bf16 (the default), fp8 …; of weights too where none are packed."
)
as_json = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
output = click.option(
    "-o", "--output", type=click.Path(), metavar="FILE", help="Write to FILE instead of the terminal."
)
svg = click.option(
    "--svg",
    "--png",
    "--pdf",
    "drawings",
    type=click.Path(),
    multiple=True,
    metavar="FILE",
    help="Also write a drawing; the file's ending says as what.",
)
