"""A tokenizer as the rest of the project sees it, whatever file it came from: text to token ids and back."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from operator import index
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import warn

from ...errors import InputError, InputWarning
from .stream import Pieces, TextStream

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend


class Tokenizer:
    """Text to token ids and back.

    `eos_ids` are the ids that end a text or a turn, the usual one first; `bos_id` begins a text; `vocab_size` counts
    the tokens, special ones included; `templates` are the chat templates by name, `specials` the texts that they know,
    such as `bos_token`.
    """

    def __init__(
        self,
        backend: Backend,
        source: str,
        eos_ids: Iterable[int] = (),
        templates: Mapping[str, str] | None = None,
        specials: Mapping[str, str] | None = None,
    ) -> None:
        self.source = source
        self.templates = dict(templates or {})
        self.specials = dict(specials or {})
        self._backend = backend
        self.vocab_size: int = backend.get_vocab_size()
        self.bos_id: int | None = self._id("bos_token")
        own = self._id("eos_token")
        self.eos_ids = tuple(dict.fromkeys((*eos_ids, *(() if own is None else (own,)))))

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """The ids of a text. Special tokens that are spelled out in it are recognised.

        Args:
            text: any text; it may be empty.
            add_special_tokens: whether the model's own first (or last) token is added, where it wants one.

        Raises:
            InputError: it is no text, or cannot be written in UTF-8.

        Warns with InputWarning where the text begins with the first token that is added as well.
        """
        if not isinstance(text, str):
            raise InputError(f"a text is expected, not a {type(text).__name__}: {text!r:.80}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"the text holds the lone surrogate U+{ord(text[error.start]):04X}; remove it") from None
        ids: list[int] = self._backend.encode(text, add_special_tokens=add_special_tokens).ids
        if add_special_tokens and self.bos_id is not None and ids[:2] == [self.bos_id, self.bos_id]:
            first = self.specials["bos_token"]
            warn(f"the text begins with {first}, and the tokenizer adds another; leave it out", InputWarning, 2)
        return ids

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of many texts, on all processors; see `encode`."""
        try:
            found = self._backend.encode_batch_fast(texts)
        except TypeError:  # a lone surrogate, or what is no text
            return [self.encode(text) for text in texts]
        return [encoding.ids for encoding in found]

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        """The text of some ids.

        Raises:
            InputError: an id is not in the vocabulary.
        """
        try:
            ids = [index(i) for i in ids]
        except TypeError:
            raise InputError(f"token ids are expected, whole numbers in a list, not {ids!r:.80}") from None
        for i in ids:
            if self._token(i) is None:
                raise InputError(f"token id {i} is not in the vocabulary of {self.vocab_size:,} tokens")
        return str(self._backend.decode(ids, skip_special_tokens=skip_special_tokens))

    def save(self, folder: str | PathLike[str]) -> None:
        """Writes the files of a Hugging Face folder: tokenizer.json, tokenizer_config.json and the chat templates."""
        path, extra = Path(fspath(folder)), {name: text for name, text in self.templates.items() if name != "default"}
        self._backend.save(str(path / "tokenizer.json"))
        settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", **self.specials}
        if "default" in self.templates:
            (path / "chat_template.jinja").write_text(self.templates["default"], "utf-8")
        if extra:
            settings["chat_template"] = [{"name": name, "template": text} for name, text in self.templates.items()]
        (path / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")

    def serialized(self) -> str:
        """As a tokenizer.json."""
        return str(self._backend.to_str())

    def render(self, messages: list[dict[str, Any]], **variables: Any) -> str:
        """The prompt that the model's chat template makes of a conversation.

        What a message says is never lost: a template that knows content only as a list of parts gets such a list, and
        a system message that it refuses or leaves out goes before the first user's message, with an InputWarning.

        Args:
            messages: dicts with "role" and "content".
            variables: `tools`, `add_generation_prompt` (true unless given), and whatever else the template knows.

        Raises:
            InputError: there is no template, or it does not want these messages.
        """
        from ..templates import ChatTemplate

        if not self.templates:
            raise InputError(f"{self.source}: has no chat template, so it is not a chat model; give it a plain prompt")
        name = "tool_use" if variables.get("tools") and "tool_use" in self.templates else "default"
        template = self.templates.get(name, next(iter(self.templates.values())))
        return ChatTemplate(template, {**self.specials, **variables}).render(messages)

    def chat(self, messages: list[dict[str, Any]], **variables: Any) -> list[int]:
        """The ids of `render`'s prompt. The template itself writes the special tokens, so none are added."""
        return self.encode(self.render(messages, **variables), add_special_tokens=False)

    def token_id(self, text: str) -> int | None:
        """The id of the token that is spelled so; None where there is none."""
        found: int | None = self._backend.token_to_id(text)
        return found

    def stream(self, skip_special_tokens: bool = True, *, keep: Collection[str] = ()) -> TextStream:
        """A decoder for ids that come one at a time; the special tokens in `keep` are not skipped."""
        skipped = self._special_ids(keep) if skip_special_tokens else frozenset()
        return TextStream(self._token, self._pieces, skipped)

    def token_bytes(self, i: int) -> bytes:
        """What a token adds to a text, in UTF-8, of which it may be a part; a special token its name. Nothing where
        there is no such token."""
        token = self._token(i)
        return b"" if token is None else self._pieces.piece(token)

    @cached_property
    def special_texts(self) -> frozenset[str]:
        """The special tokens."""
        return frozenset(t.content for t in self._backend.get_added_tokens_decoder().values() if t.special)

    @cached_property
    def _pieces(self) -> Pieces:
        decoder = json.loads(self._backend.decoder.__getstate__()) if self._backend.decoder else {}
        return Pieces.of(decoder, self.source)

    def _id(self, special: str) -> int | None:
        token = self.specials.get(special)
        return None if token is None else self.token_id(token)

    def _token(self, i: int) -> str | None:
        token: str | None = self._backend.id_to_token(i) if 0 <= i < 1 << 32 else None
        return token

    def _special_ids(self, keep: Collection[str]) -> frozenset[int]:
        added = self._backend.get_added_tokens_decoder().items()
        return frozenset(i for i, token in added if token.special and token.content not in keep)
