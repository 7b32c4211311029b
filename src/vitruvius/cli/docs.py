"""`vitruvius docs [TOPIC]`."""

from __future__ import annotations

import html
import inspect
import sys
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

import click

from .. import cost as cost_package
from ..errors import InputError
from . import options
from .output import emit_json, write

GUIDE = "guide"  # the name that pages have in an installed package; in a checkout they are in docs/
STYLE = """body { max-width: 52rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif;
  color: CanvasText; background: Canvas; color-scheme: light dark; }
pre, code { font-family: ui-monospace, monospace; font-size: .9em; } pre { overflow-x: auto; padding: .75rem;
  border: 1px solid; border-color: color-mix(in srgb, CanvasText 20%, Canvas); border-radius: 6px; }
table { border-collapse: collapse; display: block; overflow-x: auto; } img { max-width: 100%; }
th, td { padding: .25rem .6rem; border: 1px solid color-mix(in srgb, CanvasText 25%, Canvas); text-align: left; }"""


@click.command()
@click.argument("topic", required=False)
@click.option("-o", "--output", type=click.Path(file_okay=False), metavar="DIR", help="Write all pages as HTML.")
@options.as_json
def command(topic: str | None, output: str | None, as_json: bool) -> None:
    """The guide and the reference, offline: the pages by name, or a function of the library as vt.NAME.

    Without TOPIC, what there is.
    """
    pages, entries = guide(), reference()
    if output is not None:
        return written(pages, entries, Path(output))
    if topic is None:
        return contents(pages, entries, as_json)
    name = topic.removesuffix(".md").removeprefix("docs/")
    found = pages.get(name) or entries.get(name) or entries.get(f"vt.{name}")
    if found is None:
        near = get_close_matches(name, [*pages, *entries], 3, 0.5)
        raise InputError(
            f"there is no page {topic!r}; {'nearest: ' + ', '.join(near) if near else 'see vitruvius docs'}"
        )
    if as_json:
        return emit_json({"topic": name, "markdown": found})
    return shown(found)


def guide() -> dict[str, str]:
    """Name -> text of every page."""
    installed = Path(str(resources.files("vitruvius").joinpath(GUIDE)))
    folder = installed if installed.is_dir() else Path(__file__).parents[3] / "docs"
    return {page.stem: page.read_text("utf-8") for page in sorted(folder.glob("*.md"))}


def reference() -> dict[str, str]:
    """Public name, as `vt.load` -> its signature and docstring, in Markdown."""
    import vitruvius

    public: dict[str, Any] = {name: getattr(vitruvius, name) for name in vitruvius._PUBLIC}
    public |= {"cost": cost_package.cost, "catalog": vitruvius.catalog.entries}
    entries = {}
    for name, value in sorted(public.items()):
        signature = str(inspect.signature(value)).replace("'", "")
        entries[f"vt.{name}"] = f"# vt.{name}\n\n```python\n{name}{signature}\n```\n\n{inspect.getdoc(value) or ''}\n"
    return entries


def title(text: str) -> str:
    """A page's first heading."""
    return next((line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")), "")


def contents(pages: Mapping[str, str], entries: Mapping[str, str], as_json: bool) -> None:
    """What there is."""
    if as_json:
        return emit_json({"pages": {name: title(text) for name, text in pages.items()}, "reference": list(entries)})
    width = max(map(len, pages))
    lines = [f"  {name:<{width}}  {title(text)}" for name, text in pages.items()]
    click.echo("\n".join(("Pages: vitruvius docs NAME", *lines, "", f"Reference: {', '.join(entries)}")))
    return None


def shown(text: str) -> None:
    """A page as a terminal shows it, or as it is where it is read by a program."""
    if not sys.stdout.isatty():
        return click.echo(text.rstrip("\n"))
    from rich.console import Console
    from rich.markdown import Markdown

    return Console().print(Markdown(text))


def written(pages: Mapping[str, str], entries: Mapping[str, str], folder: Path) -> None:
    """Every page as HTML, and one with the reference."""
    every = {**pages, "reference": "\n".join(entries.values())}
    links = "".join(f'<li><a href="{name}.html">{html.escape(title(text))}</a></li>' for name, text in every.items())
    bodies = {name: rendered(text, every) for name, text in every.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from None
    for name, body in {**bodies, "index": f"<h1>Vitruvius</h1><ul>{links}</ul>"}.items():
        home = "" if name == "index" else '<p><a href="index.html">All pages</a></p>'
        head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{name}</title>'
        write(
            folder / f"{name}.html", f"<!doctype html><html lang=en>{head}<style>{STYLE}</style>{home}{body}</html>\n"
        )


def rendered(text: str, pages: Collection[str]) -> str:
    """A page as HTML. Links lead to other pages and to the web; what is neither (images, files of a checkout) stays as
    words."""
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    for token in (child for parent in tokens for child in parent.children or ()):
        if token.type == "link_open":
            target = str(token.attrs.pop("href"))
            name, hash_, place = target.partition("#")
            if name.removesuffix(".md") in pages:
                token.attrs["href"] = f"{name.removesuffix('.md')}.html{hash_}{place}"
            elif "://" in target or not name:
                token.attrs["href"] = target
        elif token.type == "image":
            token.type, token.tag, token.nesting = "text", "", 0
    return str(markdown.renderer.render(tokens, markdown.options, {}))
