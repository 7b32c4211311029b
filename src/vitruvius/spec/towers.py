"""What surrounds a language model that sees or hears: towers that turn other things than text into its embeddings."""

from __future__ import annotations

from dataclasses import dataclass, field

from .base import Part, Spec, slots
from .decoder import Decoder


@dataclass(frozen=True, kw_only=True)
class Tower(Spec):
    """Turns what is not text (a picture, a sound) into embeddings of the decoder's width. They take the places of the
    tokens `placeholder` in the text.

    Args:
        name: vision, audio, …; also its name in the model.
        body: what computes them, a noun of its own.
    """

    name: str
    placeholder: int
    body: Spec

    def check(self) -> None:
        if not self.name.isidentifier() or self.name in ("decoder", "spec", "width", "path"):
            raise ValueError(f"a tower needs a name that an attribute may have, got {self.name!r}")
        if self.placeholder < 0:
            raise ValueError(f"Tower.placeholder must be a token id, got {self.placeholder}")

    def parts(self, width: int) -> dict[str, Part]:
        return slots(width, body=self.body)


@dataclass(frozen=True, kw_only=True)
class Model(Spec):
    """A decoder and its towers. The decoder alone is the text model: it costs, draws and runs as any other."""

    name: str = field(compare=False)
    towers: tuple[Tower, ...]
    decoder: Decoder

    def check(self) -> None:
        names = [tower.name for tower in self.towers]
        if len(set(names)) < len(names):
            raise ValueError(f"towers need names of their own, got {', '.join(names)}")

    @property
    def width(self) -> int:
        """Channels of the decoder's residual stream."""
        return self.decoder.width

    def parts(self, width: int) -> dict[str, Part]:
        return slots(width, **{tower.name: tower for tower in self.towers}, decoder=self.decoder)
