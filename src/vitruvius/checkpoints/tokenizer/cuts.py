"""How byte-level vocabularies cut a text before they merge it, by the name that a GGUF file gives.

llama.cpp's converter tells a tokenizer by the hash of what it makes of one text, and writes a name
(`tokenizer.ggml.pre`). What each name means is in ggml-org/llama.cpp, src/llama-vocab.cpp; where a model's own
tokenizer.json says it more exactly (composed characters, digits one by one), that is taken.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cut:
    """How a vocabulary wants its text prepared: cut at these patterns, one after the other.

    Args:
        nfc: composes characters first.
        whole: takes a piece that is a token as that token, whatever the merges say (tiktoken does so).
        bos: whether a first token is added where the file does not say.
        spaced: tokens are text with ▁ for spaces, and bytes spelled out as <0x0A>, instead of GPT-2's letters.
        ranked: without merges in the file, tokens merge in the order of their ids (tiktoken's ranks).
    """

    patterns: tuple[str, ...]
    nfc: bool = False
    whole: bool = False
    bos: bool = False
    spaced: bool = False
    ranked: bool = False


SPACES = r"\s+(?!\S)|\s+"
LINES = rf"\s*[\r\n]+|{SPACES}"
GPT2 = rf"'s|'t|'re|'ve|'m|'ll|'d| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|{SPACES}"
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORD, OTHER = r"[^\r\n\p{L}\p{N}]?\p{L}+", r" ?[^\s\p{L}\p{N}]+[\r\n]*"
WORD_WITH_MARKS, OTHER_THAN_MARKS = r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+", r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
LLAMA3 = rf"{CONTRACTIONS}|{WORD}|\p{{N}}{{1,3}}|{OTHER}|{LINES}"
QWEN2 = rf"{CONTRACTIONS}|{WORD}|\p{{N}}|{OTHER}|{LINES}"
QWEN35 = rf"{CONTRACTIONS}|{WORD_WITH_MARKS}|\p{{N}}|{OTHER_THAN_MARKS}|{LINES}"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{{0}}|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{{0}}"
OTHER_OR_SLASH = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
TEKKEN = rf"{CASED.replace('{0}', '')}|\p{{N}}|{OTHER_OR_SLASH}|{LINES}"
CONTRACTED = CASED.replace("{0}", CONTRACTIONS + "?")
GPT4O = rf"{CONTRACTED}|\p{{N}}{{1,3}}|{OTHER_OR_SLASH}|{LINES}"
NOT_HAN = CONTRACTED.replace(r"\p{M}]", r"\p{M}&&[^\p{Han}]]")
KIMI = rf"[\p{{Han}}]+|{NOT_HAN}|\p{{N}}{{1,3}}|{OTHER}|{LINES}"
ASCII_MARKS = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"
WORDS_OR_MARKS = rf"{ASCII_MARKS}[A-Za-z]+|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+| ?[\p{{P}}\p{{S}}]+"
CJK = "[一-龥\u3040-ゟ゠-ヿ]+"
CHINESE_OR_KOREAN = "[一-龥\u0800-一가-\ud7ff]+"
DEEPSEEK3 = (r"\p{N}{1,3}", CJK, rf"{WORDS_OR_MARKS}[\r\n]*|{LINES}")
ASIAN = "[一-\u9fff㐀-\u4dbf豈-\ufaff\u3040-ゟ゠-ヿ･-ﾟ⼀-\u2fdfเ-\u0e7f\u0e80-\u0effក-\u17ffက-႟ꩠ-ꩿꧠ-\ua9ff가-\ud7afᄀ-ᇿ]+"
SENTENCES = r" ?[^(\s|.,!?…。，、।۔،)]+"
DIGIT, BY_THREE = r"\p{N}", r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))"
LINE = r"[^\n]+|[\n]+"

# A kind -> its cut, and the names that mean it.
_KINDS: tuple[tuple[Cut, str], ...] = (
    (
        Cut((GPT2,)),
        (
            "gpt-2 phi-2 gigachat a.x-4.0 mellum exaone4 mpt olmo jais trillion granite-docling modern-bert "
            "jina-es jina-de jina-v2-es jina-v2-de jina-v1-en jina-v2-code roberta-bpe"
        ),
    ),
    (Cut((DIGIT, GPT2)), "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2"),
    (
        Cut((LLAMA3,), whole=True, bos=True),
        "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
    ),
    (Cut((LLAMA3,)), "dbrx smaug-bpe chatglm-bpe"),
    (Cut((LLAMA3,), whole=True), "glm4 glm5"),
    (Cut((QWEN2,), nfc=True), "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez"),
    (Cut((QWEN2,)), "stablelm2 hunyuan solar-open grok-2"),
    (Cut((QWEN35,), nfc=True), "qwen35"),
    (Cut((QWEN2.removeprefix(f"{CONTRACTIONS}|"),)), "ufakzeka"),
    (Cut((LINE, QWEN2)), "laguna"),
    (Cut((TEKKEN,), whole=True, bos=True), "tekken"),
    (Cut((GPT4O,)), "gpt-4o llama4 kanana2 talkie minimax-m2"),
    (Cut((GPT4O,), whole=True), "granite-embed-multi-97m"),
    (Cut((BY_THREE, GPT4O)), "tiny_aya cohere2moe"),
    (Cut((KIMI,), whole=True, ranked=True), "kimi-k2"),
    (Cut(DEEPSEEK3), "deepseek-v3 hunyuan-dense joyai-llm hy_v4"),
    (Cut((BY_THREE, ASIAN, DEEPSEEK3[2])), "afmoe"),
    (Cut((r"\p{N}{1,3}", CJK, rf"{WORDS_OR_MARKS}|[\r\n]|{SPACES}", DIGIT)), "spark2_5"),
    (
        Cut(
            (
                r"[\r\n]",
                r"\s?[\p{Lu}\p{Ll}\p{Lt}]+",
                "\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+",
                r"\s+$",
                CHINESE_OR_KOREAN,
                DIGIT,
            )
        ),
        "deepseek-llm",
    ),
    (Cut((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CHINESE_OR_KOREAN, DIGIT)), "deepseek-coder"),
    (Cut((r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]")), "falcon"),
    (Cut((r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]")), "default"),
    (Cut((SENTENCES,)), "poro-chat bloom gpt3-finnish"),
    (Cut((SENTENCES, DIGIT)), "viking"),
    (Cut((r"\p{N}+", r"(?=(\d{3})+(?!\d))")), "superbpe"),
    (
        Cut((rf"'(?i:[sdmt]|ll|ve|re)|{WORD}|\p{{N}}|{OTHER}|\s*[\r\n]|{SPACES}",)),
        "bailingmoe bailingmoe2 llada-moe",
    ),
    (Cut((rf"{CONTRACTIONS}|{WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{LINES}",)), "seed-coder"),
    (
        Cut(
            (
                (
                    rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
                    rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]?|\s*[\r\n]|{SPACES}"
                ),
            )
        ),
        "exaone-moe",
    ),
    (Cut((r"\p{N}{1,3}", LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}+")), whole=True), "minicpm5"),
    (
        Cut(
            (
                "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥\u3040-ゟ゠-ヿ]+",
                GPT4O.replace(r"\p{N}{1,3}", DIGIT),
            ),
            whole=True,
        ),
        "youtu",
    ),
    (
        Cut(
            (
                LLAMA3.removesuffix(SPACES)
                + "|".join(rf"\s{{{n}}}(?!\S)" for n in (512, 256, 128, 64, 32, 16, 8, 4))
                + r"|\s{1,2}(?!\S)|\s",
            )
        ),
        "jais-2",
    ),
    (
        Cut(
            (
                "<sentinel:[0-9]+>",
                "IMGIMG[A-I]{1,4}Z",
                r"[\t\n]|    |  ",
                DIGIT,
                r"[\p{P}!-/:-@\[-`{-~]",
                GPT2.removesuffix(r"|\s+"),
            ),
            bos=True,
        ),
        "chameleon",
    ),
    (Cut((LINE,), bos=True, spaced=True, whole=True), "gemma4 granite-embed-multi-311m"),
    (Cut((LINE,), spaced=True), "sarvam-moe"),
)
CUTS = {name: cut for cut, names in _KINDS for name in names.split()}
