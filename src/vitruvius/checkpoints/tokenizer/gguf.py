"""The tokenizer in the metadata of a GGUF file.

It holds the vocabulary with its merges or scores, and names how text is cut before merging; what the names mean is in
ggml-org/llama.cpp, src/llama-vocab.cpp, and in the tokenizer.json of the models that have them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ..gguf import GGUF
from .bpe import add, byte_level, merges_in_order, spaced, surround
from .cuts import CUTS
from .encoding import Tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

LONGEST_TOKEN = 1 << 9  # characters; the longest real ones are runs of 128 spaces

# enum llama_token_type
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

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


def from_gguf(gguf: GGUF) -> Tokenizer:
    """The tokenizer in the metadata of a GGUF file.

    Raises InputError where there is none, it is damaged, or of a kind that is not supported.
    """
    vocabulary = Vocabulary(gguf)
    if vocabulary.model not in BUILDERS:
        supported = ", ".join(BUILDERS)
        raise InputError(f"{gguf.path}: tokenizer model {vocabulary.model!r} is not supported (only {supported})")
    backend = BUILDERS[vocabulary.model](vocabulary)
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

    def normal(self) -> list[str]:
        """The tokens that text is made of."""
        return [token for token, kind in zip(self.tokens, self.types, strict=True) if kind == NORMAL]

    def scores(self) -> dict[str, float]:
        """SentencePiece's score of each token."""
        return dict(zip(self.tokens, self.items("scores", float, len(self.tokens)), strict=True))

    def add_specials(self, backend: Backend) -> None:
        """Makes `backend` recognise whole, in any text, the tokens that are no words."""
        for kinds, special in (((UNKNOWN, CONTROL), True), ((USER_DEFINED,), False)):
            add(backend, (token for token, kind in zip(self.tokens, self.types, strict=True) if kind in kinds), special)

    def surround(self, backend: Backend, bos: bool) -> None:
        """Makes `backend` begin and end texts as the file says, and begin them if `bos` where it says nothing."""
        surround(backend, self._around("bos", bos), self._around("eos", False))

    def _around(self, name: str, otherwise: bool) -> dict[str, int]:
        """The id that begins or ends every text, by a name; nothing where none does."""
        if not self.get(f"add_{name}_token", otherwise):
            return {}
        i = self.id(name)
        if i is None:
            raise self.fail(f"every text should have a {name} token, but tokenizer.ggml.{name}_token_id is missing")
        return {f"<{name}>": i}


def gpt2(vocabulary: Vocabulary) -> Backend:
    """Bytes written as letters, or text with ▁ for spaces, cut into words and merged in a given order."""
    name = vocabulary.get("pre") or "default"
    if vocabulary.model in CUTS:  # gemma4 is both
        name = vocabulary.model
    if name not in CUTS:
        problem = f"pre-tokenizer {str(name)[:60]!r} is not known"
        raise InputError(f"{vocabulary.gguf.path}: {problem}; use the Hugging Face folder instead")
    cut = CUTS[name]
    if cut.ranked and vocabulary.get("merges") is None:
        merges = merges_in_order(vocabulary.normal(), vocabulary.ids.__getitem__)
    else:
        merges = vocabulary.merges()
    backend = byte_level(vocabulary.ids, merges, cut)
    vocabulary.surround(backend, cut.bos)
    return backend


def llama(vocabulary: Vocabulary) -> Backend:
    """SentencePiece's byte pairs by their scores."""
    unknown, scores = vocabulary.id("unknown"), vocabulary.scores()
    backend = spaced(
        vocabulary.ids,
        merges_in_order(vocabulary.normal(), lambda token: -scores[token]),
        None if unknown is None else vocabulary.tokens[unknown],
        bool(vocabulary.get("add_space_prefix", True)),
    )
    vocabulary.surround(backend, bos=True)
    return backend


BUILDERS = {"gpt2": gpt2, "gemma4": gpt2, "llama": llama}
