"""The explorer as static files, for any host and any folder of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from ...errors import InputError
from .files import explorer

MARK = ".vitruvius-explorer"  # a folder with this file in it was written here, and may be replaced


def export(folder: Path, tell: Callable[[int, int], None] = lambda done, all_of_them: None) -> list[Path]:
    """Writes the explorer to `folder` and returns its files. All is written beside it and renamed, so that the folder
    is whole or not there; a folder with anything else in it is left alone. `tell` hears how many files are written."""
    if folder.exists() and not _ours(folder):
        raise InputError(f"{folder}: exists and was not written by `vitruvius explore --export`; name another folder")
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        written = _written(beside, tell)
        if folder.exists():
            shutil.rmtree(folder)
        beside.replace(folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return [folder / path for path in written]


def _ours(folder: Path) -> bool:
    return folder.is_dir() and ((folder / MARK).exists() or not any(folder.iterdir()))


def _written(folder: Path, tell: Callable[[int, int], None]) -> list[str]:
    files = explorer()
    for done, (path, make) in enumerate(files.items()):
        tell(done, len(files))
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(make())
    (folder / MARK).write_text("Written by `vitruvius explore --export`.\n", "utf-8")
    return list(files)
