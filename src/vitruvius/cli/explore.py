"""`vitruvius explore`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from . import options


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0 takes any free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Another address lets other machines in.")
@click.option("--no-browser", is_flag=True, help="Do not open the page.")
@click.option(
    "--model", "models", multiple=True, metavar="MODEL", help="A checkpoint to try in the page; may be repeated."
)
@click.option("--export", "folder", type=click.Path(path_type=Path), metavar="DIR", help="Write static files instead.")
@options.ignore_key
def command(
    port: int, host: str, no_browser: bool, models: tuple[str, ...], folder: Path | None, ignore: tuple[str, ...]
) -> None:
    """The gallery in the browser: every architecture with its drawing, comparisons, and what it costs where.

    With --export, the same as files that any web server can hand out, from any folder.
    """
    if folder is not None:
        from ..server.explorer.export import export

        files = export(folder, _progress)
        if sys.stderr.isatty():
            click.echo("\r\x1b[K", nl=False, err=True)
        size = sum(file.stat().st_size for file in files)
        click.echo(f"wrote {len(files)} files, {size / 1e6:.1f} MB, to {folder}", err=True)
        return
    from ..server.explorer.application import serve

    serve(host, port, not no_browser, models, ignore)


def _progress(done: int, files: int) -> None:
    """On a terminal, one line that is overwritten; elsewhere, one line for each quarter."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{done} of {files} files", nl=False, err=True)
    elif done % (files // 4 + 1) == 0:
        click.echo(f"{done} of {files} files", err=True)
