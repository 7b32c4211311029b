"""The widths of texts in the font that the drawings carry with them, and the part of the font that a drawing uses."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from functools import cache
from importlib import resources
from io import BytesIO
from typing import Any

FILES = {False: "Inter-Regular.otf", True: "Inter-SemiBold.otf"}  # semibold or not -> file
UNKNOWN_WIDTH = 1.0  # em: room for a character that the font lacks, which the viewer takes from another one

# Of one em, from the font's hhea and OS/2 tables.
ASCENT, DESCENT, CAP_HEIGHT = 0.969, 0.242, 0.727


def _bytes(bold: bool) -> bytes:
    return resources.files("vitruvius.views").joinpath("fonts", FILES[bold]).read_bytes()


def _open(bold: bool) -> Any:
    from fontTools.ttLib import TTFont  # only a drawing should wait for it

    return TTFont(BytesIO(_bytes(bold)), recalcTimestamp=False)


@cache
def _advances(bold: bool) -> dict[str, float]:
    """character -> advance width in em."""
    font = _open(bold)
    em, widths = font["head"].unitsPerEm, font["hmtx"]
    return {chr(code): widths[glyph][0] / em for code, glyph in font.getBestCmap().items()}


def measure(text: str, size: float, bold: bool = False) -> float:
    """The width of `text` in user units: the sum of its advances (the drawings switch kerning off)."""
    advances = _advances(bold)
    return size * sum(advances.get(character, UNKNOWN_WIDTH) for character in text)


def wrap(text: str, width: float, size: float, bold: bool = False) -> list[str]:
    """`text` in lines of at most `width`, broken at spaces; a word that is longer is broken where it must be."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if measure(longer, size, bold) <= width:
            lines[-1] = longer
            continue
        pieces = _pieces(word, width, size, bold)
        lines += pieces if lines[-1] else []
        lines[-1:] = [lines[-1]] if lines[-1] else pieces
    return lines


def _pieces(word: str, width: float, size: float, bold: bool) -> list[str]:
    pieces = [""]
    for character in word:
        if pieces[-1] and measure(pieces[-1] + character, size, bold) > width:
            pieces.append("")
        pieces[-1] += character
    return pieces


def embedded(characters: Iterable[str], bold: bool) -> bytes:
    """A font file with these characters only. Equal characters give equal bytes."""
    from fontTools.subset import Options, Subsetter

    options = Options(layout_features=[], hinting=False, desubroutinize=True, name_IDs=[0, 1, 2, 13, 14])
    font, subsetter = _open(bold), Subsetter(options)
    subsetter.populate(text="".join(sorted(set(characters))))
    subsetter.subset(font)
    file = BytesIO()
    font.save(file)
    return file.getvalue()


def font_face(characters: Iterable[str], bold: bool) -> str:
    """The CSS rule that brings the font's used part along."""
    data = b64encode(embedded(characters, bold)).decode("ascii")
    source = f'url(data:font/otf;base64,{data}) format("opentype")'
    return f'@font-face{{font-family:"Inter";font-weight:{600 if bold else 400};src:{source}}}'
