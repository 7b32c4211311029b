"""The forms that models have for calls of tools: one small table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from .reading import Schemas, ToolCall, braced, headed, invoked, keyed, llama, mistral, objects, tagged

if TYPE_CHECKING:
    from ...checkpoints.tokenizer import Tokenizer

Read = Callable[[str, Schemas], list[ToolCall]]


@dataclass(frozen=True)
class ToolFormat:
    """How a model writes calls.

    Args:
        name: of the form.
        begin: the marks that a call begins with; where there are none, an answer that begins with a brace or bracket
            may be calls.
        read: the calls in a text without its marks. Raises ValueError where it is none.
        end: the marks that a call ends with; where there are none, it ends with its JSON value.
        around: marks around calls, which are no text.
        inner: marks inside a call.
        told: texts of the chat template or vocabulary by which a model with this form is known.
        written: how a call is written around the name and the arguments, where they are JSON: what a forced call is
            held to.
        quotes: what stands before and after a text among the arguments, inside which a mark is none.
        several: whether one pair of marks holds several calls, of which the complete ones count when the rest is cut
            off.
    """

    name: str
    begin: tuple[str, ...]
    read: Read
    end: tuple[str, ...] = ()
    around: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    written: tuple[str, str, str] | None = None
    quotes: tuple[str, str] = ('"', '"')
    several: bool = False

    @property
    def marks(self) -> frozenset[str]:
        """All that may be tokens of their own."""
        return frozenset((*self.begin, *self.end, *self.around, *self.inner, *self.quotes, *self.told))

    def known(self, tokenizer: Tokenizer) -> bool:
        """Whether the model writes so: its chat template says what it is known by, or all are tokens of it."""
        texts = tokenizer.templates.values()
        return any(all(mark in text for mark in self.told) for text in texts)


JSON_OBJECT = ('{"name": "', '", "arguments": ', "}")
DEEPSEEK = r"(?:function<｜tool▁sep｜>(?P<name>[^\n]+?)\s*```json\s*)"
DEEPSEEK_31 = r"(?P<name>[^\n{]+?)<｜tool▁sep｜>"
PLAIN = ToolFormat("plain", (), llama, written=JSON_OBJECT)
HARMONY = ToolFormat("harmony", (), objects, told=("<|channel|>", "<|message|>"))
FORMATS = (
    HARMONY,  # gpt-oss: `Channels` finds them
    ToolFormat(  # DeepSeek 3.2 and 4
        "dsml",
        ("<｜DSML｜function_calls>", "<｜DSML｜tool_calls>", "<｜DSML｜ calls>"),
        invoked,
        ("</｜DSML｜function_calls>", "</｜DSML｜tool_calls>", "</｜DSML｜ calls>"),
        told=("｜DSML｜",),
        quotes=('string="true">', "</｜DSML｜"),
        several=True,
    ),
    ToolFormat(  # DeepSeek V3, R1
        "deepseek",
        ("<｜tool▁call▁begin｜>",),
        partial(headed, head=DEEPSEEK),
        ("<｜tool▁call▁end｜>",),
        ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
        ("<｜tool▁sep｜>",),
        ("<｜tool▁calls▁begin｜>", "```json"),
        written=(
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>",
            "\n```json\n",
            "\n```<｜tool▁call▁end｜>",
        ),
    ),
    ToolFormat(  # DeepSeek 3.1
        "deepseek-3.1",
        ("<｜tool▁call▁begin｜>",),
        partial(headed, head=DEEPSEEK_31),
        ("<｜tool▁call▁end｜>",),
        ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
        ("<｜tool▁sep｜>",),
        ("<｜tool▁calls▁begin｜>",),
    ),
    ToolFormat(  # Kimi K2
        "kimi",
        ("<|tool_call_begin|>",),
        partial(headed, head=r"\s*(?:functions\.)?(?P<name>[^:<]+):\d+\s*<\|tool_call_argument_begin\|>"),
        ("<|tool_call_end|>",),
        ("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
        ("<|tool_call_argument_begin|>",),
        ("<|tool_calls_section_begin|>",),
    ),
    ToolFormat(
        "gemma4", ("<|tool_call>",), braced, ("<tool_call|>",), told=("<|tool_call>",), quotes=('<|"|>', '<|"|>')
    ),
    ToolFormat("mistral", ("[TOOL_CALLS]",), mistral, told=("[TOOL_CALLS]",)),
    ToolFormat(
        "glm", ("<tool_call>",), keyed, ("</tool_call>",), told=("<arg_key>",), quotes=("<arg_value>", "</arg_value>")
    ),
    ToolFormat(  # Qwen3-Coder, Qwen3.5
        "qwen-xml",
        ("<tool_call>", "<function="),
        tagged,
        ("</tool_call>",),
        told=("<function=",),
        quotes=("<parameter=", "</parameter>"),
    ),
    ToolFormat(  # Hermes, Qwen 2.5 and 3
        "hermes",
        ("<tool_call>",),
        objects,
        ("</tool_call>",),
        told=("<tool_call>",),
        written=('<tool_call>\n{"name": "', '", "arguments": ', "}\n</tool_call>"),
    ),
    ToolFormat(  # Llama 3.1 and later
        "llama",
        (),
        llama,
        around=("<|python_tag|>", "<|python_start|>", "<|python_end|>"),
        told=('"parameters":',),
        written=('{"name": "', '", "parameters": ', "}"),
    ),
)


def tool_format(tokenizer: Tokenizer) -> ToolFormat | None:
    """The form of a model with that tokenizer; None where it knows no tools."""
    return next((form for form in FORMATS if form.known(tokenizer)), None)
