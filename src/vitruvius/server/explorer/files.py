"""The explorer's files by path: the page with its assets, and `data/` made from the definitions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import resources
from importlib.resources.abc import Traversable

from . import data

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
    "png": "image/png",
    "ico": "image/x-icon",
    "otf": "font/otf",
    "woff2": "font/woff2",
    "txt": "text/plain; charset=utf-8",
    "md": "text/plain; charset=utf-8",
}
INDEX = "data/index.json"


def explorer(served: Mapping[str, object] | None = None) -> dict[str, Callable[[], bytes]]:
    """Path -> its contents, made when asked for. `served` is what a server offers beside files, None in an export;
    it stands in the index for the page to read."""
    offers = {"served": served is not None, **(served or {})}
    named = {path: file.read_bytes for path, file in _site(resources.files(__package__).joinpath("site"))}
    named |= {f"data/{path}": make for path, make in data.files().items()}
    return named | {INDEX: partial(_index, offers)}


def _index(offers: Mapping[str, object]) -> bytes:
    return data.encoded({**data.index(), **offers})


def _site(folder: Traversable, path: str = "") -> Iterator[tuple[str, Traversable]]:
    for item in folder.iterdir():
        if item.is_dir():
            yield from _site(item, f"{path}{item.name}/")
        elif content_type(item.name):
            yield f"{path}{item.name}", item


def content_type(path: str) -> str | None:
    """The type of a file by its ending; None for one that is not handed out."""
    return TYPES.get(path.rpartition(".")[2])
