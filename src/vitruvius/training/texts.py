"""Documents from files: .txt (each file one, or several with form feeds between them), .jsonl, .parquet.

A document is a text, or a conversation where a .jsonl has `messages`.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import InputError

Document = str | list[dict[str, Any]]
ENDINGS = (".txt", ".md", ".jsonl", ".parquet")
OURS = "shakespeare.txt.xz"


def files(data: str | list[str] | None) -> list[Path]:
    """The files that `data` names: themselves, or all of a folder that have one of `ENDINGS`, by name. None is the text
    that comes with the package. Raises InputError for what is not there."""
    if data is None:
        return [Path(str(resources.files(__package__).joinpath("corpus", OURS)))]
    found: list[Path] = []
    for name in [data] if isinstance(data, str) else data:
        path = Path(name).expanduser()
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix in ENDINGS and file.is_file())
            if not inside:
                raise InputError(f"data: {path} holds no file that ends in {', '.join(ENDINGS)}")
            found += inside
        elif path.is_file():
            if path.suffix not in ENDINGS:
                raise InputError(f"data: {path} is none of {', '.join(ENDINGS)}")
            found.append(path)
        else:
            raise InputError(f"data: {path}: no such file or folder")
    if not found:
        raise InputError("data: names no file")
    return found


def documents(paths: Iterable[Path], key: str = "text") -> Iterator[Document]:
    """All documents that are not empty, in order.

    Args:
        key: of the text in a .jsonl's objects, or a .parquet's column.

    Raises InputError, with the file and line, for what is not UTF-8, not JSON, or has no such text.
    """
    for path in paths:
        kind = path.suffix
        found = _objects(path, key) if kind == ".jsonl" else _column(path, key) if kind == ".parquet" else _parts(path)
        yield from (document for document in found if document)


def _parts(path: Path) -> Iterator[str]:
    try:
        raw = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"data: {path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"data: {path}: not UTF-8 (byte {error.start:,}); convert it, for example with iconv"
        ) from None
    yield from text.replace("\r\n", "\n").split("\f")


def _objects(path: Path, key: str) -> Iterator[Document]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                raise InputError(f"data: {path}, line {number}: not JSON: {line[:60]!r}") from None
            if isinstance(entry, dict) and isinstance(messages := entry.get("messages"), list):
                yield _conversation(messages, f"{path}, line {number}")
            elif isinstance(entry, dict) and isinstance(text := entry.get(key), str):
                yield text
            else:
                keys = f"; it has {', '.join(map(str, entry))[:100]}" if isinstance(entry, dict) else ""
                raise InputError(f"data: {path}, line {number}: no text {key!r} and no `messages`{keys} (text=KEY)")


def _conversation(messages: list[Any], where: str) -> list[dict[str, Any]]:
    for message in messages:
        known = isinstance(message, dict) and isinstance(message.get("role"), str)
        if not (known and isinstance(message.get("content"), str)):
            raise InputError(f"data: {where}: a message has a `role` and a `content`, not {str(message)[:60]}")
    return messages


def _column(path: Path, key: str) -> Iterator[str]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise InputError(f"data: {path}: reading parquet needs pyarrow: pip install 'vitruvius[train]'") from None
    try:
        file = ParquetFile(path)
        if key not in file.schema_arrow.names:
            names = ", ".join(file.schema_arrow.names)[:200]
            raise InputError(f"data: {path}: no column {key!r}; it has {names} (text=COLUMN)")
        for part in file.iter_batches(columns=[key]):
            for text in part.column(0).to_pylist():
                if text is not None and not isinstance(text, str):
                    raise InputError(f"data: {path}: the column {key!r} holds {type(text).__name__}, not texts")
                yield text or ""
    except (ArrowException, OSError) as error:
        raise InputError(f"data: {path}: not parquet: {' '.join(str(error).split())[:200]}") from None
