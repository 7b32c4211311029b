"""Tokenizers, from a Hugging Face folder or from the metadata of a GGUF file, with their chat templates.

The work is done by Hugging Face's `tokenizers`. A folder holds that library's own file, tokenizer.json. A GGUF file
holds the vocabulary with its merges or scores, and names how text is cut before merging; what the names mean is in
ggml-org/llama.cpp, src/llama-vocab.cpp, and in the tokenizer.json of the models that have them.
"""

from __future__ import annotations

import json
import re
from codecs import getincrementaldecoder
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from operator import index
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import warn

from ..errors import InputError, InputWarning
from .defaults import Defaults
from .files import read_json
from .gguf import GGUF
from .pre_tokenizers import CUTS
from .sources import weights

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

LARGEST_FILE = 1 << 27  # bytes; the largest tokenizer.json have 35 MB
LONGEST_TOKEN = 1 << 9  # characters; the longest real ones are runs of 128 spaces

# enum llama_token_type
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


def tokenizer(source: str | PathLike[str]) -> Tokenizer:
    """The tokenizer of a model: of a folder, a .gguf file, a known model whose weights are at hand, or a hub id.

    Raises:
        InputError: the model cannot be found, or has no tokenizer.
    """
    folder = Path(fspath(source))
    path = folder if (folder / "tokenizer.json").is_file() else weights(source)
    return Tokenizer.from_gguf(GGUF.open(path)) if path.is_file() else Tokenizer.from_folder(path)


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

    @classmethod
    def from_folder(cls, path: str | PathLike[str]) -> Tokenizer:
        """The tokenizer of a Hugging Face folder.

        Raises:
            InputError: there is none, or its files are damaged.
        """
        return _from_folder(Path(fspath(path)))

    @classmethod
    def from_gguf(cls, gguf: GGUF) -> Tokenizer:
        """The tokenizer in the metadata of a GGUF file.

        Raises:
            InputError: there is none, it is damaged, or of a kind that is not supported.
        """
        return _from_gguf(gguf)

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
        from .templates import ChatTemplate

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
        decoder = json.loads(self._backend.decoder.__getstate__()) if self._backend.decoder else {}
        pieces = Pieces.of(decoder, self.source)
        skipped = self._special_ids(keep) if skip_special_tokens else frozenset()
        return TextStream(self._token, pieces, skipped)

    def _id(self, special: str) -> int | None:
        token = self.specials.get(special)
        return None if token is None else self.token_id(token)

    def _token(self, i: int) -> str | None:
        token: str | None = self._backend.id_to_token(i) if 0 <= i < 1 << 32 else None
        return token

    def _special_ids(self, keep: Collection[str]) -> frozenset[int]:
        added = self._backend.get_added_tokens_decoder().items()
        return frozenset(i for i, token in added if token.special and token.content not in keep)


class TextStream:
    """Text from ids that come one at a time; each costs the same, however long the text is.

    What `push` and at last `finish` return joins to the text of all ids. A character that is spread over several tokens
    comes with its last byte; bytes that are no character come as U+FFFD. Ids without a token (a model's vocabulary may
    be padded) give nothing.
    """

    def __init__(self, token: Callable[[int], str | None], pieces: Pieces, skipped: frozenset[int]) -> None:
        self._token, self._pieces, self._skipped = token, pieces, skipped
        self._utf8 = getincrementaldecoder("utf-8")("replace")
        self._started = False
        self._strip = pieces.strip

    def push(self, i: int) -> str:
        """The text that one more id completes, often empty."""
        token = None if i in self._skipped else self._token(int(i))
        if token is None:
            return ""
        piece = self._pieces.first(token) if not self._started else self._pieces.piece(token)
        self._started = True
        return self._stripped(self._utf8.decode(piece))

    def finish(self) -> str:
        """What is left when no id follows: U+FFFD for an unfinished character."""
        return self._stripped(self._utf8.decode(b"", final=True))

    def _stripped(self, text: str) -> str:
        """`text` without the spaces that were added before the first word."""
        while self._strip and text:
            if not text.startswith(" "):
                self._strip = 0
                break
            text, self._strip = text[1:], self._strip - 1
        return text


@dataclass(frozen=True)
class Pieces:
    """What a token contributes to a text, as UTF-8 bytes: `first` for the first token, `piece` for the others. `strip`
    is how many spaces are taken off the beginning of the text."""

    first: Callable[[str], bytes]
    piece: Callable[[str], bytes]
    strip: int = 0

    @staticmethod
    def of(decoder: dict[str, Any], source: str) -> Pieces:
        """From the "decoder" of a tokenizer.json: byte-level, or SentencePiece's marks with or without bytes."""
        steps = decoder.get("decoders", [decoder])
        kinds = [step.get("type") for step in steps]
        if kinds == ["ByteLevel"]:
            return Pieces(byte_level, byte_level)
        if kinds == ["Metaspace"]:
            mark, space = steps[0]["replacement"], " " if steps[0].get("prepend_scheme") == "never" else ""
            return Pieces(partial(marked, mark=mark, space=space), partial(marked, mark=mark))
        if kinds[:3] == ["Replace", "ByteFallback", "Fuse"] and kinds[3:] in ([], ["Strip"]):
            strip = {"content": " ", "start": 0, "stop": 0, **(steps[3] if kinds[3:] else {})}
            mark = steps[0]["pattern"].get("String")
            if mark is not None and strip["content"] == " " and strip["stop"] == 0:
                piece = partial(marked_or_spelled, mark=mark, space=steps[0]["content"])
                return Pieces(piece, piece, strip["start"])
        raise InputError(f"{source}: text of the decoder {'+'.join(map(str, kinds))} cannot be streamed")


def marked(token: str, mark: str, space: str = " ") -> bytes:
    """A token of SentencePiece, which writes spaces as a mark."""
    return token.replace(mark, space).encode()


def marked_or_spelled(token: str, mark: str, space: str) -> bytes:
    """A token of SentencePiece that may also be a byte, spelled out as `<0xE2>`."""
    return bytes.fromhex(token[3:5]) if SPELLED_BYTE.fullmatch(token) else marked(token, mark, space)


def byte_level(token: str) -> bytes:
    """The bytes that GPT-2's letters stand for; tokens with other letters were added as they are."""
    try:
        return bytes(map(BYTE_OF.__getitem__, token))
    except KeyError:
        return token.encode()


SPELLED_BYTE = re.compile("<0x[0-9A-Fa-f]{2}>")

# GPT-2 writes bytes as letters, printable ones as themselves, the other 68 as U+0100 and on (openai/gpt-2, encoder.py).
PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
OTHERS = [byte for byte in range(256) if byte not in PRINTABLE]
BYTE_OF = {chr(byte): byte for byte in PRINTABLE} | {chr(0x100 + i): byte for i, byte in enumerate(OTHERS)}


# A Hugging Face folder


def _from_folder(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer as Backend

    file = path / "tokenizer.json"
    if not file.is_file():
        other = ", ".join(
            name for name in ("tokenizer.model", "tiktoken.model", "vocab.json") if (path / name).is_file()
        )
        hint = f"; {other} alone is not supported, save it as tokenizer.json" if other else ""
        raise InputError(f"{path}: no tokenizer (looked for tokenizer.json){hint}")
    try:
        backend = Backend.from_str(_text(file))
    except Exception as error:  # tokenizers raises nothing more special
        raise InputError(f"{file}: not a tokenizer: {' '.join(str(error).split())[:200]}") from None
    _check_ends(backend, file)
    backend.no_truncation()  # what a training run has left in the file is no fact of the tokenizer
    backend.no_padding()
    settings = _json(path / "tokenizer_config.json")
    _add_described(backend, {**_json(path / "added_tokens.json")}, settings)
    specials = _special_texts({**_json(path / "special_tokens_map.json"), **settings})
    eos = Defaults.of(path, _json(path / "config.json")).eos
    return Tokenizer(backend, str(path), eos, _templates(path, settings), specials)


def _add_described(backend: Backend, ids: dict[str, Any], settings: dict[str, Any]) -> None:
    """Adds the tokens that only the files beside tokenizer.json describe, where their ids are the next ones."""
    from tokenizers import AddedToken

    described = settings.get("added_tokens_decoder")
    tokens = {i: {"content": text, "special": True} for text, i in ids.items()}
    tokens |= described if isinstance(described, dict) else {}
    by_id = {int(i): token for i, token in tokens.items() if str(i).isdecimal() and isinstance(token, dict)}
    known = {i: token.special for i, token in backend.get_added_tokens_decoder().items()}
    for i, token in sorted(by_id.items()):
        text, special = token.get("content"), bool(token.get("special"))
        at = backend.token_to_id(text) if isinstance(text, str) and text else None
        if isinstance(text, str) and text and at in (None, i) and i not in known and (at == i or i == _size(backend)):
            flags = {name: bool(token.get(name)) for name in ("single_word", "lstrip", "rstrip", "normalized")}
            added = AddedToken(text, special=special, **flags)
            (backend.add_special_tokens if special else backend.add_tokens)([added])


def _size(backend: Backend) -> int:
    """The id that the next added token gets."""
    return int(backend.get_vocab_size())


def _check_ends(backend: Backend, file: Path) -> None:
    """Tokens that are put around a text must be described, else `tokenizers` panics when it encodes."""
    state = json.loads(backend.post_processor.__getstate__()) if backend.post_processor else {}
    for step in state.get("processors", [state]):
        for piece in (*step.get("single", ()), *step.get("pair", ())):
            name = piece.get("SpecialToken", {}).get("id")
            if name is not None and name not in step["special_tokens"]:
                raise InputError(f"{file}: the post-processor adds {name!r} without describing it; fetch it again")


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise InputError(f"{file}: {file.stat().st_size:,} bytes are more than {LARGEST_FILE:,}")
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{file}: not UTF-8; fetch it again") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None


def _json(file: Path) -> dict[str, Any]:
    """The object in a file, empty where there is no such file."""
    return read_json(file) if file.is_file() else {}


def _special_texts(settings: dict[str, Any]) -> dict[str, str]:
    """`bos_token` and its like; each is a text, or an object with `content`."""
    texts = {}
    for key, value in settings.items():
        text = value.get("content") if isinstance(value, dict) else value
        if key.endswith("_token") and isinstance(text, str):
            texts[key] = text
    return texts


def _templates(path: Path, settings: dict[str, Any]) -> dict[str, str]:
    """Chat templates by name: in a file of their own, or in tokenizer_config.json, where there may be several."""
    if (file := path / "chat_template.jinja").is_file():
        return {"default": _text(file)}
    found = _json(path / "chat_template.json").get("chat_template") or settings.get("chat_template")
    if isinstance(found, str):
        return {"default": found}
    named = [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
    return {str(item.get("name")): item["template"] for item in named if isinstance(item.get("template"), str)}


# A GGUF file


# Tokens that end a text or a turn whatever the file says of them, as in llama.cpp (src/llama-vocab.cpp): the files
# often name only one, or call them ordinary.
ENDS = (
    *("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<|end|>"),
    *("<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "</s>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]"),
    *("<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", "<｜end▁of▁sentence｜>", "[e~["),
    *("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", "<|file_sep|>"),
    *("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
)
# … but not where these stand beside them: there it ends a message of an answer that goes on.
NO_END = (
    ("<|end|>", {"<|return|>", "<|call|>"}),
    ("<|end|>", {"<|calls|>", "<|flush|>"}),
    ("</s>", {"<|tool_response>"}),
)


def _from_gguf(gguf: GGUF) -> Tokenizer:
    vocabulary = Vocabulary(gguf)
    builders = {"gpt2": byte_level_bpe, "gemma4": byte_level_bpe, "llama": sentencepiece_bpe}
    if vocabulary.model not in builders:
        supported = ", ".join(builders)
        raise InputError(f"{gguf.path}: tokenizer model {vocabulary.model!r} is not supported (only {supported})")
    backend = builders[vocabulary.model](vocabulary)
    vocabulary.add_specials(backend)
    templates = {
        key.removeprefix("tokenizer.chat_template").lstrip(".") or "default": value
        for key, value in gguf.metadata.items()
        if key.startswith("tokenizer.chat_template") and isinstance(value, str)
    }
    specials = {
        f"{name}_token": vocabulary.tokens[i]
        for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
        if (i := vocabulary.id(key)) is not None
    }
    return Tokenizer(backend, str(gguf.path), vocabulary.ends(), templates, specials)


class Vocabulary:
    """The tokenizer's part of a GGUF file's metadata, checked."""

    def __init__(self, gguf: GGUF) -> None:
        self.gguf = gguf
        model = gguf.metadata.get("tokenizer.ggml.model")
        if not isinstance(model, str) or model in ("none", "no_vocab"):
            raise InputError(f"{gguf.path}: no tokenizer (looked for tokenizer.ggml.model in the file's metadata)")
        self.model = model
        self.tokens: list[str] = self.items("tokens", str)
        if (longest := max(map(len, self.tokens), default=0)) > LONGEST_TOKEN:
            raise self.fail(f"a token has {longest:,} characters, more than {LONGEST_TOKEN:,}")
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        if len(self.ids) < len(self.tokens):
            twice = next(token for i, token in enumerate(self.tokens) if self.ids[token] != i)
            raise self.fail(f"token {twice[:60]!r} appears twice")
        self.types: list[int] = list(self.items("token_type", int, len(self.tokens), NORMAL))
        missed = {text for text, beside in NO_END if beside <= self.ids.keys()}
        self._ends = [self.ids[text] for text in ENDS if text in self.ids and text not in missed]
        for i in self._ends:
            self.types[i] = CONTROL

    def fail(self, problem: str) -> InputError:
        """The error to raise about what the file says of its tokenizer."""
        return InputError(f"{self.gguf.path}: {problem}; convert the model again")

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key of the tokenizer."""
        return self.gguf.metadata.get(f"tokenizer.ggml.{key}", default)

    def items(self, key: str, kind: type, count: int | None = None, default: object = None) -> list[Any]:
        """A list of `count` values of one kind, all `default` where the file does not have it."""
        value = self.get(key)
        if value is None and default is not None and count is not None:
            return [default] * count
        if not isinstance(value, list) or not all(type(item) is kind for item in value):
            raise self.fail(f"tokenizer.ggml.{key} is missing or not a list of {kind.__name__}")
        if count is not None and len(value) != count:
            raise self.fail(f"tokenizer.ggml.{key} has {len(value):,} items for {count:,} tokens")
        return value

    def id(self, name: str) -> int | None:
        """The id of the `bos`, `eos`, … token, None where there is none. Converters write −1, or an id beyond the
        vocabulary, for none."""
        value = self.get(f"{name}_token_id")
        if value is not None and type(value) is not int:
            raise self.fail(f"tokenizer.ggml.{name}_token_id is {repr(value)[:60]}, not a token id")
        return value if value is not None and 0 <= value < len(self.tokens) else None

    def ends(self) -> list[int]:
        """The ids that end a text or a turn."""
        named = [self.id(name) for name in ("eos", "eot", "eom")]
        return [i for i in (*named, *self._ends) if i is not None]

    def merges(self) -> list[tuple[str, str]]:
        """The pairs of tokens that are merged, the first ones first."""
        pairs = []
        for merge in self.items("merges", str):
            at = merge.find(" ", 1)  # a token may begin with a space
            pair = (merge[:at], merge[at + 1 :])
            if at < 0 or pair[0] + pair[1] not in self.ids or not self.ids.keys() >= set(pair):
                raise self.fail(
                    f"tokenizer.ggml.merges holds {merge[:60]!r}, which does not join two tokens to a third"
                )
            pairs.append(pair)
        return pairs

    def merges_by_score(self) -> list[tuple[str, str]]:
        """SentencePiece's merges: any two tokens that join to a third, by its score, longer left parts first.

        `tokenizers` knows no scores; merges in their order give the same ids.
        """
        scores = self.items("scores", float, len(self.tokens))
        return self._merges_in_order(lambda token: -scores[self.ids[token]])

    def merges_by_id(self) -> list[tuple[str, str]]:
        """tiktoken's merges: the same, the lowest id first."""
        return self._merges_in_order(self.ids.__getitem__)

    def _merges_in_order(self, order: Callable[[str], float]) -> list[tuple[str, str]]:
        normal = [token for token, kind in zip(self.tokens, self.types, strict=True) if kind == NORMAL]
        known = set(normal)
        normal.sort(key=order)
        return [
            (token[:at], token[at:])
            for token in normal
            for at in range(len(token) - 1, 0, -1)
            if token[:at] in known and token[at:] in known
        ]

    def add_specials(self, backend: Backend) -> None:
        """Makes `backend` recognise whole, in any text, the tokens that are no words."""
        from tokenizers import AddedToken

        for kinds, special in (((UNKNOWN, CONTROL), True), ((USER_DEFINED,), False)):
            texts = [token for token, kind in zip(self.tokens, self.types, strict=True) if kind in kinds and token]
            added = [AddedToken(text, special=special, normalized=False) for text in texts]
            (backend.add_special_tokens if special else backend.add_tokens)(added)

    def surround(self, backend: Backend, bos: bool) -> None:
        """Makes `backend` begin and end texts as the file says, and begin them if `bos` where it says nothing."""
        from tokenizers.processors import TemplateProcessing

        first, last = self._around("bos", bos), self._around("eos", False)
        if first or last:
            backend.post_processor = TemplateProcessing(
                single=[*first, "$A", *last], special_tokens=[*first.items(), *last.items()]
            )

    def _around(self, name: str, otherwise: bool) -> dict[str, int]:
        """The id that begins or ends every text, by a name; nothing where none does."""
        if not self.get(f"add_{name}_token", otherwise):
            return {}
        i = self.id(name)
        if i is None:
            raise self.fail(f"every text should have a {name} token, but tokenizer.ggml.{name}_token_id is missing")
        return {f"<{name}>": i}


def byte_level_bpe(vocabulary: Vocabulary) -> Backend:
    """GPT-2's kind: bytes written as letters, cut into words, merged in a given order."""
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
    from tokenizers import Tokenizer as Backend

    name = vocabulary.get("pre") or "default"
    if vocabulary.model in CUTS:  # gemma4 is both
        name = vocabulary.model
    if name not in CUTS:
        problem = f"pre-tokenizer {str(name)[:60]!r} is not known"
        raise InputError(f"{vocabulary.gguf.path}: {problem}; use the Hugging Face folder instead")
    cut = CUTS[name]
    merges = vocabulary.merges_by_id() if cut.ranked and vocabulary.get("merges") is None else vocabulary.merges()
    backend = Backend(models.BPE(vocabulary.ids, merges, ignore_merges=cut.whole, byte_fallback=cut.spaced))
    splits = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in cut.patterns]
    if cut.spaced:
        backend.normalizer = normalizers.Replace(" ", "▁")
        backend.pre_tokenizer = pre_tokenizers.Sequence(splits)
        backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    else:
        if cut.nfc:
            backend.normalizer = normalizers.NFC()
        letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([*splits, letters])
        backend.decoder = decoders.ByteLevel()
    vocabulary.surround(backend, cut.bos)
    return backend


def sentencepiece_bpe(vocabulary: Vocabulary) -> Backend:
    """SentencePiece's kind: spaces written as ▁, the text merged whole, unknown characters spelled out in bytes."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, normalizers

    unknown = vocabulary.id("unknown")
    model = models.BPE(
        vocabulary.ids,
        vocabulary.merges_by_score(),
        unk_token=None if unknown is None else vocabulary.tokens[unknown],
        fuse_unk=True,
        byte_fallback=True,
    )
    backend = Backend(model)
    spaced = vocabulary.get("add_space_prefix", True)
    before = [normalizers.Prepend("▁")] if spaced else []
    after = [decoders.Strip(" ", 1, 0)] if spaced else []
    backend.normalizer = normalizers.Sequence([*before, normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *after])
    vocabulary.surround(backend, bos=True)
    return backend
