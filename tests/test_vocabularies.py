"""Vocabularies in other files than tokenizer.json: to the token the ids of the libraries that the files are for."""

from __future__ import annotations

import base64
import io
import json
import unicodedata
import warnings
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tiktoken
from test_tokenizer import TRICKY, folder, random_texts, streamed
from tokenizers import ByteLevelBPETokenizer

from vitruvius.checkpoints.tokenizer import Tokenizer, from_folder, tokenizer
from vitruvius.checkpoints.tokenizer.letters import BYTE_OF
from vitruvius.errors import InputError

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
TEXTS = [
    *TRICKY,
    *random_texts(150),
    *README.split("\n\n"),
    "  two  spaces ",
    "CamelCase SHOUTED don't I'LL we'Ve ’t",
    "12345678901 1.5e-3 ٣٤ Ⅷ",
    "한국어 日本語 ｆｕｌｌ e\u0301 ﬁ",
    "\t\ttabs\r\n\r\n\n",
    "a<0x41>b",
    "🦙🏽‍♀️ \u200b zero width",
    "x" * 300,
    "zqxzqx zqxzqx zqxzqxz",
]


# SentencePiece


def trained(**options: Any) -> bytes:
    """A model that sentencepiece has trained on the README."""
    out = io.BytesIO()
    options = {"vocab_size": 600, "minloglevel": 2, "num_threads": 1} | options
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*README.splitlines(), *TRICKY[:9]]), model_writer=out, **options
    )
    return out.getvalue()


LLAMA = {"byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": False}
GEMMA = LLAMA | {"add_dummy_prefix": False, "user_defined_symbols": ["<tag>", "<tag2>", "\n\n", "▁▁"]}
MODELS = {
    "as Llama 2": LLAMA | {"model_type": "bpe"},
    "as Gemma": GEMMA | {"model_type": "bpe"},
    "own pieces and a first space": LLAMA | {"model_type": "bpe", "user_defined_symbols": ["<tag>", "<tag2>"]},
    "without bytes": {"model_type": "bpe"},
    "as T5": {"model_type": "unigram"},
    "unigram with bytes": LLAMA | {"model_type": "unigram"},
    "unigram with own pieces": LLAMA | {"model_type": "unigram", "user_defined_symbols": ["<tag>", "<tag2>", "mod"]},
    "folded": {"model_type": "unigram", "normalization_rule_name": "nmt_nfkc_cf", "vocab_size": 400},
}


@pytest.fixture(scope="module", params=MODELS)
def sentencepiece_model(request: pytest.FixtureRequest) -> bytes:
    return trained(**MODELS[request.param])


def test_ids_are_those_of_sentencepiece(tmp_path: Path, sentencepiece_model: bytes) -> None:
    path = tmp_path / "a"
    path.mkdir()
    (path / "tokenizer.model").write_bytes(sentencepiece_model)
    judge = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model)
    ours = from_folder(path)
    again = tmp_path / "b"
    again.mkdir()
    ours.save(again)
    saved = from_folder(again)
    for text in [*TEXTS, "x<tag>y  <tag2><tag> z", " <tag>"]:
        ids = judge.encode(text)
        assert ours.encode(text, add_special_tokens=False) == ids
        assert saved.encode(text, add_special_tokens=False) == ids
        assert streamed(ours, ids) == ours.decode(ids)
        if judge.unk_id() not in ids:
            assert ours.decode(ids) == judge.decode(ids)
    assert ours.vocab_size == judge.vocab_size()


def test_tokens_that_begin_and_end_a_text_of_sentencepiece(tmp_path: Path) -> None:
    for kind, content in (("bpe", trained(model_type="bpe")), ("unigram", trained(model_type="unigram"))):
        path = folder(tmp_path / kind)
        (path / "spiece.model").write_bytes(content)
        judge = sentencepiece.SentencePieceProcessor(model_proto=content)
        ids, ours = judge.encode("a b"), from_folder(path)
        assert (ours.bos_id, ours.eos_ids) == (1, (2,))
        assert ours.encode("a b") == ([1, *ids] if kind == "bpe" else [*ids, 2])
        folder(path, tokenizer_config_json={"add_bos_token": False, "add_eos_token": False})
        assert from_folder(path).encode("a b") == ids
        folder(path, tokenizer_config_json={"add_bos_token": True, "add_eos_token": True})
        assert from_folder(path).encode("a b") == [1, *ids, 2]


def test_tokens_that_files_beside_sentencepiece_add(tmp_path: Path) -> None:
    content = trained(model_type="bpe", **LLAMA)
    judge, size = sentencepiece.SentencePieceProcessor(model_proto=content), 600
    path = folder(
        tmp_path / "a",
        added_tokens_json={"<|im_end|>": size},
        tokenizer_config_json={
            "tokenizer_class": "LlamaTokenizer",
            "eos_token": "<|im_end|>",
            "added_tokens_decoder": {str(size + 1): {"content": "<own>", "special": False}},
        },
    )
    (path / "tokenizer.model").write_bytes(content)
    ours = from_folder(path)
    assert ours.encode("a b<|im_end|><own></s>") == [1, *judge.encode("a b"), size, size + 1, 2]
    assert (ours.vocab_size, ours.eos_ids[0]) == (size + 2, size)
    folder(path, tokenizer_config_json={"tokenizer_class": "T5Tokenizer", "extra_ids": 3})
    t5 = from_folder(path)  # with the token of added_tokens.json after its own
    assert [t5.token_id(f"<extra_id_{i}>") for i in range(3)] == [size + 2, size + 1, size]


def test_sentencepiece_that_cannot_be_read(tmp_path: Path) -> None:
    def problem(content: bytes, **files: Any) -> str:
        path = folder(tmp_path / "a", **files)
        (path / "tokenizer.model").write_bytes(content)
        with pytest.raises(InputError) as caught:
            from_folder(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    whole = trained(model_type="bpe")
    for content in (
        b"",
        b"junk",
        whole[: len(whole) // 2],
        whole[:-1],
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ):
        assert "not a complete SentencePiece model; fetch it again" in problem(content)
    assert "git lfs pull" in problem(b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 4\n")
    assert "of the kind word is not supported" in problem(trained(model_type="word", vocab_size=100))
    assert "with spaces after words is not" in problem(trained(model_type="bpe", treat_whitespace_as_suffix=True))
    other = problem(whole, tokenizer_config_json={"tokenizer_class": "XLMRobertaTokenizerFast"})
    assert "XLMRobertaTokenizer gives other ids than this file has" in other


# tiktoken


CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
HAN = r"\p{M}&&[^\p{Han}]"
KIMI = (
    rf"[\p{{Han}}]+|[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}{HAN}]*[\p{{Ll}}\p{{Lm}}\p{{Lo}}{HAN}]+"
    rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}{HAN}]+"
    rf"[\p{{Ll}}\p{{Lm}}\p{{Lo}}{HAN}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.fixture(scope="module")
def byte_pairs() -> ByteLevelBPETokenizer:
    """A byte-level vocabulary, trained by `tokenizers`, whose ids are its ranks."""
    trainer = ByteLevelBPETokenizer()
    trainer.train_from_iterator([*TEXTS * 2, " ".join(README.split())], 900, 2, show_progress=False)
    return trainer


@pytest.fixture(scope="module")
def ranks(byte_pairs: ByteLevelBPETokenizer) -> dict[bytes, int]:
    found = {bytes(BYTE_OF[letter] for letter in token): i for token, i in byte_pairs.get_vocab().items()}
    return found | {b" zqxzqx": len(found)}  # no merges lead to this one: it is found as a whole


def tiktoken_file(path: Path, ranks: dict[bytes, int]) -> None:
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % i for token, i in ranks.items()))


def judged(ours: Tokenizer, judge: tiktoken.Encoding, nfc: bool = False) -> None:
    for text in TEXTS:
        ids = judge.encode(unicodedata.normalize("NFC", text) if nfc else text, allowed_special="all")
        assert ours.encode(text, add_special_tokens=False) == ids
        assert ours.decode(ids) == judge.decode(ids) == streamed(ours, ids)


@pytest.mark.parametrize(
    ("file", "kind", "pattern", "specials"),
    [
        (
            "qwen.tiktoken",
            "QWenTokenizer",
            CL100K % "",
            {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2, "<|extra_204|>": 207},
        ),
        ("tiktoken.model", "TikTokenTokenizer", KIMI, {"[BOS]": 0, "<|im_end|>": 5, "<|reserved_token_{255}|>": 255}),
        ("tokenizer.model", "ChatGLM4Tokenizer", CL100K % "{1,3}", {"[BOS]": 0, "<|im_end|>": 5}),
        ("tokenizer.model", None, CL100K % "{1,3}", {"<|eot_id|>": 9, "<|reserved_special_token_246|>": 255}),
    ],
)
def test_ids_are_those_of_tiktoken(
    tmp_path: Path, ranks: dict[bytes, int], file: str, kind: str | None, pattern: str, specials: dict[str, int]
) -> None:
    size = len(ranks)
    path = folder(tmp_path / "a")
    if kind:
        described = {"[BOS]": 0, "<|im_end|>": 5} if kind != "QWenTokenizer" else {}
        decoder = {str(size + i): {"content": text, "special": True} for text, i in described.items()}
        decoder["5"] = {"content": "<low>", "special": True}  # the id of an ordinary token, which it stays
        folder(path, tokenizer_config_json={"tokenizer_class": kind, "added_tokens_decoder": decoder})
    tiktoken_file(path / file, ranks)
    ours = from_folder(path)
    named = {text.replace("{255}", str(size + 255)): size + i for text, i in specials.items()}
    judged(ours, tiktoken.Encoding("a", pat_str=pattern, mergeable_ranks=ranks, special_tokens=named), "qwen" in file)
    for text, i in named.items():
        assert ours.encode(f"a{text}", add_special_tokens=False)[-1] == i
        assert ours.decode([i], skip_special_tokens=True) == ""
    assert ours.token_id("<low>") is None
    if kind is None:
        assert ours.encode("a")[0] == ours.bos_id == size
        assert ours.eos_ids == (size + 1,)


def test_tiktoken_that_cannot_be_read(tmp_path: Path, ranks: dict[bytes, int]) -> None:
    def problem(content: bytes, kind: str = "QWenTokenizer") -> str:
        path = folder(tmp_path / "a", tokenizer_config_json={"tokenizer_class": kind})
        (path / "a.tiktoken").write_bytes(content)
        with pytest.raises(InputError) as caught:
            from_folder(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    tiktoken_file(tmp_path / "whole", ranks)
    whole = (tmp_path / "whole").read_bytes()
    assert "is in the code of its tokenizer (HYTokenizer), which is not run and not known" in problem(
        whole, "HYTokenizer"
    )
    assert "line 3 is no token in base64 with its rank" in problem(whole.replace(b"\n", b"\n\nnonsense\n", 1))
    assert "a byte is missing" in problem(whole[: whole.index(b"\n", 100)])
    assert "an id is there twice" in problem(whole + b"YWFhYWE= 300\n")
    assert problem(b"").endswith("not a complete SentencePiece model; fetch it again")


# tekken


TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?"
    r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def tekken_file(path: Path, ranks: dict[bytes, int], specials: list[dict[str, Any]] | None, version: str) -> None:
    config = {"pattern": TEKKEN, "num_vocab_tokens": len(ranks), "default_num_special_tokens": 30, "version": version}
    config["default_vocab_size"] = len(ranks) + 30 - 50  # the last ones are not used
    tokens = [*(bytes([byte]) for byte in range(256)), *sorted(ranks, key=lambda token: ranks[token])[256:]]
    spelled = (base64.b64encode(token).decode() for token in tokens)
    vocabulary = [{"rank": i, "token_bytes": token, "token_str": None} for i, token in enumerate(spelled)]
    content = {"config": config, "vocab": vocabulary} | ({"special_tokens": specials} if specials else {})
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("version", ["v3", "v11"])
def test_ids_are_those_of_mistral_common(tmp_path: Path, ranks: dict[bytes, int], version: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    names = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[THINK]"]
    own = [{"rank": i, "token_str": text, "is_control": text != "[THINK]"} for i, text in enumerate(names)]
    path = folder(tmp_path / "a")
    tekken_file(path / "tekken.json", ranks, own if version == "v11" else None, version)
    judge, ours = Tekkenizer.from_file(path / "tekken.json"), from_folder(path)
    for text in TEXTS:
        assert ours.encode(text) == judge.encode(text, bos=True, eos=False)
    special = "[THINK]" if version == "v11" else "[TOOL_CALLS]"
    assert ours.encode(f"a{special}</s>", add_special_tokens=False)[1:] == [judge.get_special_token(special), 2]
    assert ours.decode([5, 29]) == ("[THINK]" if version == "v11" else "[AVAILABLE_TOOLS]") + "<SPECIAL_29>"
    assert ours.decode([5, 29], skip_special_tokens=True) == ("[THINK]" if version == "v11" else "")
    assert (ours.bos_id, ours.eos_ids, ours.vocab_size) == (1, (2,), judge.n_words)


def test_tekken_that_cannot_be_read(tmp_path: Path, ranks: dict[bytes, int]) -> None:
    path = folder(tmp_path / "a")
    for wrong, problem in (
        ({"config": {}}, "not a complete tekken file"),
        ({"vocab": [{"rank": 0, "token_bytes": "x", "token_str": None}]}, "not a complete tekken file"),
        ({"vocab": [{"rank": 0, "token_bytes": "YQ==", "token_str": None}]}, "a byte is missing"),
    ):
        tekken_file(path / "tekken.json", ranks, None, "v3")
        content = json.loads((path / "tekken.json").read_text())
        (path / "tekken.json").write_text(json.dumps(content | wrong))
        with pytest.raises(InputError, match=problem):
            from_folder(path)
    content["config"]["pattern"] = "(a"
    (path / "tekken.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="its pattern cannot be used"):
        from_folder(path)


# vocab.json and merges.txt


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("GPT2Tokenizer", "gpt2"),
        ("Qwen2Tokenizer", "qwen2"),
        ("CodeGenTokenizer", "codegen"),
        ("RobertaTokenizer", "roberta"),
        (None, "qwen2"),
        (None, None),
    ],
)
def test_ids_are_those_of_transformers(
    tmp_path: Path, byte_pairs: ByteLevelBPETokenizer, kind: str | None, model: str | None
) -> None:
    import transformers

    path = folder(tmp_path / "a")
    byte_pairs.save_model(str(path))
    specials = ["<|endoftext|>", "<s>", "</s>", "<pad>", "<unk>", "<mask>"]
    vocabulary = json.loads((path / "vocab.json").read_text())
    folder(path, vocab_json=vocabulary | {text: len(vocabulary) + i for i, text in enumerate(specials)})
    if kind:
        folder(path, tokenizer_config_json={"tokenizer_class": kind})
    if model:
        folder(path, config_json={"model_type": model})
    judge = getattr(transformers, kind or ("Qwen2Tokenizer" if model else "GPT2Tokenizer")).from_pretrained(path)
    ours = from_folder(path)
    for text in [*TEXTS, "a<|endoftext|>b"]:
        ids = judge(text)["input_ids"]
        assert ours.encode(text) == ids
        assert ours.decode(ids) == judge.decode(ids, clean_up_tokenization_spaces=False) == streamed(ours, ids)
    assert ours.eos_ids == (judge.eos_token_id,)


def test_a_text_may_begin_with_a_space(tmp_path: Path, byte_pairs: ByteLevelBPETokenizer) -> None:
    from transformers import GPT2Tokenizer

    path = folder(tmp_path / "a", tokenizer_config_json={"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True})
    byte_pairs.save_model(str(path))
    judge, ours = GPT2Tokenizer.from_pretrained(path), from_folder(path)
    for text in TEXTS:
        assert ours.encode(text) == judge(text)["input_ids"]
    assert ours.encode("the") == ours.encode(" the")


def test_merges_that_cannot_be_read(tmp_path: Path, byte_pairs: ByteLevelBPETokenizer) -> None:
    def problem(**files: Any) -> str:
        path = folder(tmp_path / "a", **files)
        with pytest.raises(InputError) as caught:
            from_folder(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    vocabulary = byte_pairs.get_vocab()
    wrong = problem(vocab_json=vocabulary, merges_txt="#version: 0.2\nĠ t\nq q q\n")
    assert "merges.txt: line 3, 'q q q', does not join two tokens to a third" in wrong
    assert "vocab.json: not tokens with their ids" in problem(vocab_json={"a": "b"}, merges_txt="")
    unknown = problem(vocab_json=vocabulary, merges_txt="", tokenizer_config_json={"tokenizer_class": "CLIPTokenizer"})
    assert "how CLIPTokenizer cuts a text is not known (only GPT2Tokenizer, " in unknown


def test_the_most_complete_file_is_read(tmp_path: Path, ranks: dict[bytes, int]) -> None:
    """tokenizer.json before tekken.json before tokenizer.model before tiktoken's."""
    path = folder(tmp_path / "a", tokenizer_config_json={"tokenizer_class": "QWenTokenizer"})
    sizes = []
    tiktoken_file(path / "qwen.tiktoken", ranks)
    sizes.append(from_folder(path).vocab_size)
    (path / "tokenizer.model").write_bytes(trained(model_type="bpe"))
    sizes.append(from_folder(path).vocab_size)
    tekken_file(path / "tekken.json", ranks, None, "v3")
    sizes.append(from_folder(path).vocab_size)
    (tmp_path / "b").mkdir()
    from_folder(path).save(tmp_path / "b")
    data = json.loads((tmp_path / "b" / "tokenizer.json").read_text("utf-8"))
    del data["model"]["vocab"]["<SPECIAL_29>"]
    data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] != "<SPECIAL_29>"]
    folder(path, tokenizer_json=data)
    sizes.append(from_folder(path).vocab_size)
    files = ("qwen.tiktoken", "tokenizer.model", "tekken.json", "tokenizer.json")
    assert [tokenizer(path / file).vocab_size for file in files] == sizes  # or the one that is named
    assert sizes == [len(ranks) + 208, 600, len(ranks) - 20, len(ranks) - 21]
