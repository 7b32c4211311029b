"""The colours, each with one meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Paint = tuple[str, str]  # fill, edge


@dataclass(frozen=True)
class Theme:
    """What everything is painted with: `roles` by what a part does, `kinds` of layers in order of appearance."""

    paper: str
    ink: str
    muted: str
    line: str
    leader: str
    panel: Paint
    difference: Paint
    roles: Mapping[str, Paint]
    kinds: tuple[str, ...]


PAPER = Theme(
    paper="#ffffff",
    ink="#1c2733",
    muted="#5f6c7a",
    line="#465564",
    leader="#9aa5b1",
    panel=("#f4f5f7", "#c3cad2"),
    difference=("#fde3ee", "#c4145f"),
    roles={
        "attention": ("#dbe8f8", "#3a6fb0"),
        "feed-forward": ("#dcf0e2", "#3a8a58"),
        "norm": ("#fbf2d9", "#b3923a"),
        "embedding": ("#e8e3f5", "#7560ab"),
        "cache": ("#ffffff", "#3a6fb0"),
        "plain": ("#ffffff", "#8a96a3"),
    },
    kinds=("#5d7389", "#dd9a2b", "#2a9d8f", "#8f62b3", "#b0553a", "#7a9a3c"),
)

NIGHT = Theme(
    paper="#12171d",
    ink="#e9edf1",
    muted="#a3afbb",
    line="#9fb0c0",
    leader="#5a6773",
    panel=("#1a2129", "#3a4652"),
    difference=("#4a1230", "#ff6fa8"),
    roles={
        "attention": ("#1d3350", "#6ea3e0"),
        "feed-forward": ("#193a27", "#64b985"),
        "norm": ("#3a321a", "#cbab57"),
        "embedding": ("#2e2748", "#a18fd8"),
        "cache": ("#12171d", "#6ea3e0"),
        "plain": ("#12171d", "#76838f"),
    },
    kinds=("#8aa0b6", "#e3ab4c", "#4bbcae", "#b48bd6", "#d9805f", "#a3c162"),
)
