"""Tokens on disk: what a run learns from, read through memory maps.

A folder of the user's cache holds the tokens of some files by one tokenizer: `train.tokens` and `held.tokens` (whole
numbers of 2 or 4 bytes, every document with the token that ends it), `*.ends` (where documents end), `*.learned` for
conversations, and `index.json`. It is written in pieces, so that what was begun goes on where it stopped, and has the
hash of all documents, so that a run goes on with the text it began with.

A document that stands twice is read once. Held out are whole documents, chosen by their hash, or of fewer than `MANY`
the last share of the text. Held-out text that also stands in the training text is told.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b, sha256
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checkpoints.tokenizer import Tokenizer
from ..errors import InputError
from . import chats, texts, words
from .batches import Held, PackedRows
from .conversations import WholeDocuments
from .overlap import shared
from .recipe import Recipe
from .texts import Document

VERSION = 1  # of the folder
MANY = 200  # documents of which some can be held out whole
AT_ONCE = 1000  # documents that are encoded together
PIECE = 1 << 24  # tokens that are lost at most when it is stopped
TRAIN, HELD = "train", "held"


@dataclass(frozen=True, eq=False)
class Corpus:
    """The tokens of some files.

    Args:
        tokenizer: whose they are.
        folder: where they lie.
        index: what is known of them: `documents`, `duplicates`, `tokens`, `held_tokens`, `held_seen` (the share of the
            held-out tokens that also stand in the training text), `sha256`.
    """

    tokenizer: Tokenizer
    folder: Path
    index: dict[str, Any]

    def training(self, recipe: Recipe) -> PackedRows | WholeDocuments:
        """Rows of whole conversations, or of texts. Raises InputError where there are too few tokens."""
        tokens, ends, learned = self._split(TRAIN)
        if learned is not None:
            return WholeDocuments(tokens, ends, recipe.batch, recipe.sequence, recipe.seed, learned)
        return PackedRows(tokens, ends, recipe.batch, recipe.sequence, recipe.seed)

    def held(self, recipe: Recipe) -> Held | None:
        """What is held out, None where that is less than two rows of texts, or no conversation."""
        tokens, ends, learned = self._split(HELD)
        if learned is not None and len(ends):
            whole = WholeDocuments(tokens, ends, recipe.batch, recipe.sequence, 0, learned)
            return whole.in_order(recipe.eval_batches)
        if learned is not None or len(tokens) < 2 * recipe.sequence:
            return None
        return PackedRows(tokens, ends, recipe.batch, recipe.sequence).in_order(recipe.eval_batches)

    def _split(self, name: str) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.bool_] | None]:
        cut = self.index["cut"]
        file = TRAIN if cut is not None else name
        tokens = _mapped(self.folder / f"{file}.tokens", self.index["dtype"])
        ends = _mapped(self.folder / f"{file}.ends", "int64")
        learned = _mapped(self.folder / f"{file}.learned", "bool") if self.index["chat"] else None
        if cut is None:
            return tokens, ends, learned
        some = slice(0, cut) if name == TRAIN else slice(cut, None)
        cut_ends = ends[ends > cut] - cut if name == HELD else np.append(ends[ends < cut], cut)
        return tokens[some], cut_ends, None if learned is None else learned[some]


def prepare(recipe: Recipe, own: Tokenizer | None) -> Corpus:
    """The tokens of the recipe's data, made where they are not there yet.

    Args:
        own: the tokenizer of the model.

    Raises InputError for files that are not there or cannot be read, and conversations without a chat template.
    """
    paths = texts.files(recipe.data)
    wanted = recipe.tokenizer or ("train" if own is None else "own")
    known = {"bytes": words.of_bytes, "own": lambda: own}.get(wanted)
    tokenizer = known() if known else None if wanted == "train" else words.named(wanted)
    by = ["train", recipe.vocab] if tokenizer is None else sha256(tokenizer.serialized().encode()).hexdigest()
    template = None if tokenizer is None else tokenizer.templates
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    key = sha256(json.dumps([VERSION, stats, recipe.text, by, template, recipe.validation]).encode()).hexdigest()[:16]
    folder = cache() / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another run may be making the same
            if tokenizer is None:
                tokenizer = _trained(folder, paths, recipe)
            if not (folder / "index.json").exists():
                _write(folder, paths, recipe, tokenizer)
    except OSError as error:
        raise InputError(
            f"{folder}: the tokens cannot be written ({error.strerror}); XDG_CACHE_HOME is where"
        ) from None
    return Corpus(tokenizer, folder, json.loads((folder / "index.json").read_text("utf-8")))


def cache() -> Path:
    """Where tokens are kept: the user's cache directory."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "vitruvius" / "tokens"


def _trained(folder: Path, paths: list[Path], recipe: Recipe) -> Tokenizer:
    file = folder / "tokenizer.json"
    if not file.exists():
        made = words.trained(texts.documents(paths, recipe.text), recipe.vocab)
        _replace(file, made.serialized())
    return words.restored(file)


# ------------------------------------------------------------------ writing


class _Split:
    """One of the two texts, as it grows."""

    def __init__(self, folder: Path, name: str, dtype: Any, sizes: dict[str, int]) -> None:
        self.dtype, self.sizes, self.files = dtype, sizes, {}
        self.at = sizes.get(f"{name}.tokens", 0) // np.dtype(dtype).itemsize
        for kind in ("tokens", "ends", "learned"):
            path = folder / f"{name}.{kind}"
            file = path.open("r+b" if path.exists() else "w+b")
            file.truncate(sizes.get(path.name, 0))  # what was not finished is written again
            file.seek(0, os.SEEK_END)
            self.files[kind] = file

    def add(self, ids: list[int], learned: list[bool] | None) -> None:
        self.at += len(ids)
        self.files["tokens"].write(np.asarray(ids, self.dtype).tobytes())
        self.files["ends"].write(np.int64(self.at).tobytes())
        if learned is not None:
            self.files["learned"].write(np.asarray(learned, bool).tobytes())

    def close(self) -> None:
        """Leaves the files as they are."""
        for file in self.files.values():
            file.close()

    def flush(self) -> dict[str, int]:
        """Their sizes, once they are on the disk."""
        for file in self.files.values():
            file.flush()
            os.fsync(file.fileno())
        return {Path(file.name).name: file.tell() for file in self.files.values()}


def _write(folder: Path, paths: list[Path], recipe: Recipe, tokenizer: Tokenizer) -> None:
    """Makes the files, from where that was stopped."""
    dtype = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32
    progress = folder / "progress.json"
    done: dict[str, Any] = {"documents": 0, "hash": "", "sizes": {}, "chat": False}
    if progress.exists():
        done = json.loads(progress.read_text("utf-8"))
    splits = {name: _Split(folder, name, dtype, done["sizes"]) for name in (TRAIN, HELD)}
    try:
        index = _filled(folder, paths, recipe, tokenizer, done, splits)
    finally:
        for split in splits.values():
            split.close()
    index["dtype"] = np.dtype(dtype).name
    prepared = Corpus(tokenizer, folder, index)
    those, kept = (prepared._split(name)[0] for name in (TRAIN, HELD))
    index |= {"tokens": len(those), "held_tokens": len(kept), "held_seen": shared(kept, those)}
    _replace(folder / "index.json", json.dumps(index))
    progress.unlink(missing_ok=True)


def _filled(
    folder: Path,
    paths: list[Path],
    recipe: Recipe,
    tokenizer: Tokenizer,
    done: dict[str, Any],
    splits: dict[str, _Split],
) -> dict[str, Any]:
    """Adds all documents that are not `done`. Returns what is known of them."""
    many = len(list(islice(texts.documents(paths, recipe.text), MANY))) == MANY
    seen: set[bytes] = set()
    duplicates, written, chain = 0, 0, str(done["hash"])
    for start, some in _grouped(texts.documents(paths, recipe.text)):
        new: list[tuple[Document, bytes]] = []
        fresh = start >= done["documents"]
        for document in some:
            digest = blake2b(json.dumps(document).encode(), digest_size=16).digest()
            if digest in seen:
                duplicates += 1
                continue
            seen.add(digest)
            new.append((document, digest))
        if not fresh:
            continue
        for (_, digest), (ids, learned) in zip(
            new, _encoded(tokenizer, [document for document, _ in new]), strict=True
        ):
            chain = sha256(chain.encode() + digest).hexdigest()
            held = many and int.from_bytes(digest[:8], "big") < recipe.validation * 2**64
            splits[HELD if held else TRAIN].add(ids, learned)
            written += len(ids)
            done["chat"] |= learned is not None
        if written >= PIECE:
            sizes = {name: size for split in splits.values() for name, size in split.flush().items()}
            done |= {"documents": start + len(some), "hash": chain, "sizes": sizes}
            _replace(folder / "progress.json", json.dumps(done))
            written = 0
    for split in splits.values():
        split.flush()
    if not seen:
        raise InputError(f"data: {', '.join(map(str, paths[:3]))}: no text in it")
    if done["chat"] and any((folder / f"{n}.learned").stat().st_size != s.at for n, s in splits.items()):
        raise InputError("data: conversations and plain texts are mixed: train on one kind at a time")
    cut = None if many else round(splits[TRAIN].at * (1 - recipe.validation))
    if cut is not None and done["chat"]:  # between two conversations
        for split in splits.values():
            split.flush()
        ends = _mapped(folder / f"{TRAIN}.ends", "int64")
        cut = int(ends[min(np.searchsorted(ends, cut), len(ends) - 1)])
    return {"documents": len(seen), "duplicates": duplicates, "sha256": chain, "chat": done["chat"], "cut": cut}


def _grouped(documents: Iterator[Document]) -> Iterator[tuple[int, list[Document]]]:
    start = 0
    while some := list(islice(documents, AT_ONCE)):
        yield start, some
        start += len(some)


def _encoded(tokenizer: Tokenizer, documents: list[Document]) -> Iterator[tuple[list[int], list[bool] | None]]:
    """The ids of each, with the token that ends it, and of a conversation which are learned."""
    end = tokenizer.eos_ids[:1]
    plain = [document for document in documents if isinstance(document, str)]
    ids_of = iter(tokenizer.encode_all(plain))
    for document in documents:
        if isinstance(document, str):
            ids = next(ids_of)
            yield (ids if (*ids[-1:],) == end else [*ids, *end]), None
        else:
            yield chats.encoded(tokenizer, document)


def _mapped(path: Path, dtype: str) -> NDArray[Any]:
    """The numbers of a file, which are read when they are used."""
    return np.memmap(path, dtype, "r") if path.stat().st_size else np.zeros(0, dtype)


def _replace(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, "utf-8")
    beside.replace(path)
