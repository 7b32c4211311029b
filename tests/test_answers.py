"""Reasoning and text of an answer, told apart as they come."""

from __future__ import annotations

import re
from random import Random

import pytest
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from vitruvius.checkpoints.tokenizer import Tokenizer
from vitruvius.inference.answers import FORMATS, PLAIN, Channels, ReasoningFormat

HARMONY, GEMMA, COHERE, MISTRAL, SEED, KIMI, THINK = FORMATS
THINKING = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[it]<think>\n"
    "{% if enable_thinking is false %}\n</think>\n\n{% endif %}{% endif %}"
)


def parted(form: ReasoningFormat, pieces: list[str], before: str = "") -> tuple[str, str]:
    """The reasoning and the text."""
    channels = Channels(form, before)
    parts = [part for piece in pieces for part in channels.push(piece)] + channels.finish()
    return tuple("".join(part.text for part in parts if part.channel == name) for name in ("reasoning", "text"))


@pytest.mark.parametrize(
    ("form", "answer", "reasoning", "text"),
    [
        (
            HARMONY,
            "<|channel|>analysis<|message|>Reply shortly.<|end|><|start|>assistant<|channel|>final<|message|>Hello!",
            "Reply shortly.",
            "Hello!",
        ),
        (HARMONY, "<|channel|>final json<|message|>{}", "", "{}"),
        (HARMONY, "<|channel|>commentary to=functions.f json<|message|>{}", "{}", ""),
        (HARMONY, "<|channel|>analysis<|message|>cut", "cut", ""),
        (HARMONY, "<|channel|>anal", "", ""),
        (HARMONY, "no channel at all", "", "no channel at all"),
        (GEMMA, "<|channel>thought\nHm.\nYes.\n<channel|>Hello\n\nyou", "Hm.\nYes.", "Hello\n\nyou"),
        (GEMMA, "<|channel>thought\n<channel|>Hello", "", "Hello"),
        (GEMMA, "Hello <|channel>thought\nmore<channel|> you", "more", "Helloyou"),
        (COHERE, "<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>Yes<|END_RESPONSE|>", "Hm.", "Yes"),
        (MISTRAL, "[THINK]Hm.[/THINK]Yes", "Hm.", "Yes"),
        (SEED, "<seed:think>Hm.</seed:think>Yes", "Hm.", "Yes"),
        (KIMI, "◁think▷Hm.◁/think▷Yes", "Hm.", "Yes"),
        (THINK, "<think>\nhm\n</think>\n\nHello\n", "hm", "Hello\n"),
        (THINK, "\n<think>a</think>\n<think>b</think>c", "ab", "c"),
        (THINK, "Write <think> and </think> around it", "", "Write <think> and </think> around it"),
        (THINK, "<think>I use <think> here", "I use <think> here", ""),
        (THINK, "<thin", "", "<thin"),
        (THINK, "  Hello \n", "", "  Hello \n"),
        (PLAIN, " <think>a</think> ", "", " <think>a</think> "),
    ],
)
def test_reasoning_and_text(form: ReasoningFormat, answer: str, reasoning: str, text: str) -> None:
    assert parted(form, [answer]) == (reasoning, text)
    assert parted(form, list(answer)) == (reasoning, text)


@pytest.mark.parametrize(
    ("form", "before", "answer", "reasoning", "text"),
    [
        (THINK, "<|im_start|>assistant\n<think>\n", "\nhm\n</think>\n\nHi", "hm", "Hi"),
        (THINK, "<|im_start|>assistant\n<think>\n\n</think>\n\n", "Hi", "", "Hi"),
        (GEMMA, "<|turn>model\n<|channel>thought\n<channel|>", "Hi", "", "Hi"),
        (GEMMA, "<|turn>model\n<|channel>thought\n", "hm<channel|>Hi", "hm", "Hi"),
        (HARMONY, "<|start|>assistant", "<|channel|>final<|message|>Hi", "", "Hi"),
        (HARMONY, "<|start|>assistant<|channel|>analysis<|message|>", "hm<|end|>", "hm", ""),
    ],
)
def test_what_the_template_has_begun(
    form: ReasoningFormat, before: str, answer: str, reasoning: str, text: str
) -> None:
    assert parted(form, [answer], before) == (reasoning, text)


@pytest.mark.parametrize("form", [*FORMATS, PLAIN], ids=lambda form: min(form.texts, default="plain"))
def test_an_answer_is_the_same_however_it_is_cut(form: ReasoningFormat) -> None:
    random = Random(7)
    marks = sorted(form.texts)
    words = [*marks, *marks, "analysis", "final", "thought", "\n", " ", "a", "<", "<|", "<th", "[", "◁"]
    for _ in range(600):
        answer = "".join(random.choices(words, k=random.randrange(20)))
        before = random.choice(["", *marks])
        cuts = sorted(random.choices(range(len(answer) + 1), k=random.randrange(9)))
        pieces = [answer[a:b] for a, b in zip([0, *cuts], [*cuts, len(answer)], strict=True)]
        whole = parted(form, [answer], before)
        assert parted(form, pieces, before) == parted(form, list(answer), before) == whole, (answer, before, pieces)


def test_every_word_is_given_out_once() -> None:
    random = Random(7)
    for _ in range(300):
        reasoning, text = ("".join(random.choices("ab \n<>", k=random.randrange(9))) for _ in range(2))
        answer = f"<think>{reasoning}</think>{text}"
        said = re.fullmatch(r"<think>\s*(.*?)\s*</think>\s*(.*)", answer, re.DOTALL)
        assert said
        assert parted(THINK, list(answer)) == said.groups(), answer


# ------------------------------------------------------------------ which form a model has


def tokenizer(special: list[str], template: str = "", words: list[str] | None = None) -> Tokenizer:
    """Byte-level without merges, with special tokens and others that are added."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    backend.add_special_tokens([AddedToken(text, special=True) for text in special])
    backend.add_tokens([AddedToken(text, special=False) for text in words or []])
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return Tokenizer(backend, "test", templates={"default": template} if template else {})


def test_the_format_is_that_of_the_tokens_or_the_template() -> None:
    for form in FORMATS:
        assert Channels.of(tokenizer(sorted(form.texts), "x"), {}).form is form
    assert Channels.of(tokenizer([], THINKING), {}).form is THINK
    assert Channels.of(tokenizer(["<think>"], "x"), {}).form is PLAIN
    assert Channels.of(tokenizer(["<|channel|>", "<|end|>"], "x"), {}).form is PLAIN


def test_the_template_opens_the_reasoning_or_not_by_its_variables() -> None:
    opened = Channels.of(tokenizer([], THINKING), {})
    assert [(part.channel, part.text) for part in opened.push("hm</think>Hi")] == [("reasoning", "hm"), ("text", "Hi")]
    closed = Channels.of(tokenizer([], THINKING), {"enable_thinking": False})
    assert [(part.channel, part.text) for part in closed.push("Hi")] == [("text", "Hi")]


def test_only_marks_of_the_special_tokens_are_text() -> None:
    harmony = tokenizer([*sorted(HARMONY.texts), "<|other|>"], "x")
    answer = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|other|>json<|message|>{}"
    ids = harmony.encode(answer)
    stream = harmony.stream(keep=HARMONY.texts)
    pieces = [*map(stream.push, ids), stream.finish()]
    assert "".join(pieces) == answer.replace("<|other|>", "")
    assert parted(HARMONY, pieces) == ("hm", "{}")
    stream = harmony.stream()
    assert "".join(map(stream.push, ids)) == "analysishmassistantfinaljson{}"
