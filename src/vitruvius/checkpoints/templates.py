"""Chat templates: Jinja2 programs that arrive with a checkpoint, run so that they can only make text.

What a template may use is what transformers offers (utils/chat_template_utils.py): an immutable sandbox, `trim_blocks` and
`lstrip_blocks`, loop controls, `{% generation %}`, `tojson`, `raise_exception`, `strftime_now`. The sandbox keeps a template
away from Python, but not from looping forever or from filling the memory. So here all its work is counted: every block that
is entered, every item that a filter passes on, every comparison and every text that is built spends from one allowance, and
what would be large is refused before it is made. There are no clocks and no signals, so it holds in any thread.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from datetime import datetime
from functools import wraps
from types import BuiltinMethodType, FunctionType, MethodType
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.environment import Template
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import FILTERS
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.tests import TESTS
from jinja2.utils import Namespace, pass_context

from ..errors import InputError

# A real template enters some ten blocks for each message. A unit of work takes some 0.3 µs.
ALLOWANCE = 2_000_000
LONGEST_TEXT = 1 << 24  # characters, of one text and of the whole result
LONGEST_TEMPLATE = 1 << 17
LARGEST_INTEGER = 4096  # bits
WIDEST = 1000  # of a field or an indentation
CHARACTERS, ITEMS = 64, 8  # handled in one unit of work


class TooMuch(Exception):
    """The template asks for more than any honest one needs."""


def render(
    template: str,
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None = None,
    add_generation_prompt: bool = True,
    bos_token: str = "",
    eos_token: str = "",
    **variables: Any,
) -> str:
    """The prompt that a chat template makes of a conversation.

    Args:
        template: the text of the template.
        messages: dicts with "role" and "content".
        tools: JSON schemas of tools, for templates that offer them.
        add_generation_prompt: whether to end with the beginning of the assistant's answer.
        bos_token: text of the token that begins a sequence.
        eos_token: text of the token that ends a sequence.
        variables: whatever else the template knows, such as `enable_thinking`.

    Raises:
        InputError: the template is not valid, refuses the messages, oversteps its sandbox or does too much.
    """
    if len(template) > LONGEST_TEMPLATE:
        raise InputError(f"the chat template has {len(template):,} characters, more than {LONGEST_TEMPLATE:,}")
    given = {
        "messages": messages,
        "tools": tools,
        "documents": None,
        "add_generation_prompt": add_generation_prompt,
        "bos_token": bos_token,
        "eos_token": eos_token,
        **variables,
    }
    try:
        return Sandbox().run(template, plain(given))
    except SecurityError as error:
        problem = f"oversteps its sandbox: {error}"
    except TooMuch as error:
        problem = f"does too much: {error}"
    except RecursionError:
        problem = "does too much: it calls itself too deeply"
    except TemplateError as error:
        problem = f"cannot be used: {error}"
    except (ArithmeticError, AttributeError, LookupError, MemoryError, SyntaxError, TypeError, ValueError) as error:
        problem = f"fails on these messages: {type(error).__name__}: {error}"
    raise InputError(f"the chat template {shortened(problem)}") from None


def shortened(text: str) -> str:
    """One line of at most 300 characters."""
    line = " ".join(text[:1000].split())
    return line if len(line) <= 300 else f"{line[:299]}…"


def plain(value: Any) -> Any:
    """A copy made of nothing but dicts, lists and scalars, so that no method of a caller's object is within reach."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    raise TypeError(f"a {type(value).__name__} cannot be given to a chat template, only what JSON can hold")


class Meter(CodeGenerator):
    """Compiles a template so that it reports its work to its `Sandbox`."""

    def blockvisit(self, nodes: Iterable[nodes.Node], frame: Frame) -> None:
        """The body of a loop, a condition, a macro …: entering it spends as much as it holds."""
        block = list(nodes)
        self.writeline(f"environment.enter({sum(map(weight, block))}, {sum(map(text_length, block))})")
        super().blockvisit(block, frame)

    def visit_Operand(self, node: nodes.Operand, frame: Frame) -> None:
        """The right side of a comparison, which takes as long as that is large."""
        self.write(f" {OPERATORS[node.op]} environment.{'searched' if node.op in ('in', 'notin') else 'compared'}(")
        self.visit(node.expr, frame)
        self.write(")")

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        """a ~ b ~ …"""
        self.write("environment.concat((")
        for item in node.nodes:
            self.visit(item, frame)
            self.write(", ")
        self.write("))")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        """A slice copies, so it spends as much as the whole; other items are the sandbox's."""
        if not isinstance(node.arg, nodes.Slice):
            super().visit_Getitem(node, frame)
            return
        self.write("environment.copied(")
        self.visit(node.node, frame)
        self.write(")[")
        self.visit(node.arg, frame)
        self.write("]")


OPERATORS = {
    "eq": "==",
    "ne": "!=",
    "gt": ">",
    "gteq": ">=",
    "lt": "<",
    "lteq": "<=",
    "in": "in",
    "notin": "not in",
}
BLOCKS = ("body", "else_", "elif_")


def weight(node: nodes.Node) -> int:
    """How many nodes are evaluated where `node` is, those of its own blocks apart."""
    return 1 + sum(map(weight, node.iter_child_nodes(exclude=BLOCKS)))


def text_length(node: nodes.Node) -> int:
    """The characters of plain text that a statement writes."""
    if not isinstance(node, nodes.Output):
        return 0
    return sum(len(child.data) for child in node.nodes if isinstance(child, nodes.TemplateData))


class Generation(Extension):
    """`{% generation %}` marks what the assistant wrote, for training; what is inside is rendered as it stands."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The statements inside."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of one rendering, with its allowance of work."""

    code_generator_class = Meter
    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%", "**"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, optimized=False, cache_size=0, extensions=[Generation, loopcontrols]
        )
        self.left = ALLOWANCE
        self.written = 0
        self.finalize = self.write
        self.filters = {name: self.metered(FILTERS[name]) for name in PLAIN_FILTERS}
        self.filters |= {name: self.metered(getattr(self, f"do_{name}")) for name in BOUNDED_FILTERS}
        self.filters["(spend)"] = self.compared  # cannot be spelled in a template
        self.tests = {name: self.metered(TESTS[name]) for name in PLAIN_TESTS}
        self.functions: dict[str, Callable[..., Any]] = {
            "range": self.globals["range"],
            "namespace": TemplateNamespace,
            "dict": dict,
            "raise_exception": raise_exception,
            "strftime_now": strftime_now,
        }
        self.globals = dict(self.functions)

    def run(self, source: str, variables: dict[str, Any]) -> str:
        """Compiles and renders."""
        tree = self.parse(source)
        for loop in tree.find_all(nodes.For):
            if loop.test is not None:  # evaluated for every item, also where no item passes
                loop.test = nodes.Filter(loop.test, "(spend)", [], [], None, None)
        code = self.compile(tree, filename="<chat template>")
        template = Template.from_code(self, code, dict(self.globals))
        return "".join(template.root_render_func(template.new_context(variables)))

    # What the compiled template reports

    def spend(self, units: int) -> None:
        """Takes from the allowance."""
        self.left -= units
        if self.left < 0:
            raise TooMuch(f"more than {ALLOWANCE:,} steps of work")

    def enter(self, units: int, characters: int) -> None:
        """A block is entered that writes so many characters of its own."""
        self.spend(units)
        self.wrote(characters)

    def wrote(self, characters: int) -> None:
        """Counts what is written, wherever it goes."""
        self.written += characters
        if self.written > LONGEST_TEXT:
            raise TooMuch(f"it writes more than {LONGEST_TEXT:,} characters")

    def write(self, value: Any) -> str:
        """The text of `{{ value }}`."""
        text = str(self.compared(value))
        self.wrote(len(text))
        return text

    def copied(self, value: Any) -> Any:
        """Spends for going once through a text or a collection, not into it."""
        if isinstance(value, str):
            self.spend(1 + len(value) // CHARACTERS)
        elif isinstance(value, Sized):
            self.spend(1 + len(value) // ITEMS)
        else:
            self.spend(1)
        return value

    def compared(self, value: Any) -> Any:
        """Spends for going through a value to its leaves, each as often as it occurs."""
        queue = [value]
        while queue:
            item = queue.pop()
            self.copied(item)
            if isinstance(item, Mapping):
                queue.extend(item)
                queue.extend(item.values())
            elif isinstance(item, list | tuple | set):
                queue.extend(item)
        return value

    def searched(self, value: Any) -> Any:
        """Spends for looking something up in a value; an iterator is used up item by item."""
        if isinstance(value, Mapping):
            return value
        return self.counted(value) if isinstance(value, Iterator) else self.compared(value)

    def counted(self, items: Iterable[Any]) -> Iterator[Any]:
        """Spends for each item as it passes."""
        for item in items:
            self.spend(1)
            yield item

    def fits(self, characters: int) -> None:
        """Refuses a text that would be too long, before it is made."""
        if characters > LONGEST_TEXT:
            raise TooMuch(f"it builds a text of {characters:,} characters")
        self.spend(1 + characters // CHARACTERS)

    def concat(self, values: Iterable[Any]) -> str:
        """The texts of all values, one after the other; also what filters and macros collect."""
        return self.joined("", values)

    def joined(self, separator: str, values: Iterable[Any]) -> str:
        """`separator.join(values)`, each item counted before the whole is made."""
        texts = [str(self.compared(value)) for value in self.counted(values)]
        self.fits(sum(map(len, texts)) + len(separator) * len(texts))
        return separator.join(texts)

    # Calls, operators and filters

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 (named as Jinja does)
        """Calls what a template may call: its macros, loops and functions, and the harmless methods of its values."""
        if isinstance(__obj, BuiltinMethodType):
            return __self.method(__obj, args, kwargs)
        bound = __obj.__self__ if isinstance(__obj, MethodType) else None
        own = any(__obj is function for function in __self.functions.values())
        if not (own or isinstance(__obj, Macro | LoopContext | Undefined) or isinstance(bound, LoopContext)):
            raise SecurityError(f"it calls {name_of(__obj)}, which is not allowed")
        __self.compared(args)
        __self.spend(1 + len(kwargs))
        return super().call(__context, __obj, *args, **kwargs)

    def method(self, method: BuiltinMethodType, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls a method of a text, list, tuple or dict."""
        owner, name = method.__self__, method.__name__
        if name not in METHODS.get(type(owner), ()):
            raise SecurityError(f"it calls {type(owner).__name__}.{name}, which is not allowed")
        self.copied(owner)
        if name == "join":
            return self.joined(owner, *args)
        self.compared(args)
        if name == "replace":
            return self.do_replace(owner, *args)
        if name in ("center", "ljust", "rjust", "zfill"):
            self.narrow(args[0])
        if name in ("count", "index") and isinstance(owner, list | tuple):
            self.compared(owner)
        return self.copied(method(*args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic, with results of a modest size."""
        if isinstance(left, int | float) and isinstance(right, int | float):
            self.modest(operator, left, right)
        elif operator == "*":
            self.repeated(left, right)
        elif operator == "%" and isinstance(left, str):
            self.formatted(left, right)
        elif isinstance(left, str) and isinstance(right, str):
            self.fits(len(left) + len(right))
        else:
            self.copied(left)
            self.copied(right)
        return super().call_binop(context, operator, left, right)

    def modest(self, operator: str, left: float, right: float) -> None:
        """Refuses integers that grow beyond any use."""
        self.spend(1)
        bits = [int(value).bit_length() if isinstance(value, int) else 64 for value in (left, right)]
        size = bits[0] * abs(right) if operator == "**" else sum(bits)
        if size > LARGEST_INTEGER:
            raise TooMuch(f"a number of more than {LARGEST_INTEGER:,} bits")

    def repeated(self, left: Any, right: Any) -> None:
        """Refuses texts and lists that are repeated too often."""
        value, times = (right, left) if isinstance(left, int) else (left, right)
        if isinstance(value, Sized) and isinstance(times, int):
            self.fits(len(value) * times)
            self.spend(0 if isinstance(value, str) else max(0, len(value) * times) // ITEMS)

    def formatted(self, pattern: str, *values: Any) -> None:
        """Refuses fields that are too wide in a printf-style pattern."""
        self.compared(values)
        self.copied(pattern)
        if re.search(r"%[^%a-zA-Z]*(\*|\d{4,})", pattern):
            raise TooMuch(f"a field of more than {WIDEST - 1} characters")

    def narrow(self, width: Any) -> None:
        """Refuses a width that is too large."""
        if isinstance(width, int) and width > WIDEST:
            raise TooMuch(f"a field of {width:,} characters")

    def metered(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A filter or test that spends for what it is given; iterators are counted as they are used."""

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return function(*map(self.argument, args), **kwargs)

        return call

    def argument(self, value: Any) -> Any:
        """One argument of a filter or test."""
        if isinstance(value, Context | type(self)) or type(value).__name__ == "EvalContext":
            return value
        return self.counted(value) if isinstance(value, Iterator) else self.copied(value)

    def do_join(self, value: Any, separator: str = "", attribute: str | None = None) -> str:
        """The filter `join`."""
        items = value if attribute is None else (self.getattr(item, attribute) for item in value)
        return self.joined(str(separator), items)

    def do_replace(self, text: Any, old: Any, new: Any, count: int = -1) -> str:
        """The filter and the method `replace`."""
        text, old, new = str(self.compared(text)), str(old), str(new)
        times = text.count(old) if count is None or count < 0 else min(count, text.count(old))
        self.fits(len(text) + times * max(0, len(new) - len(old)))
        return text.replace(old, new, times)

    def do_string(self, value: Any) -> str:
        """The filter `string`."""
        return str(self.compared(value))

    def do_tojson(
        self,
        value: Any,
        ensure_ascii: bool = False,
        indent: int | str | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """The filter `tojson` of transformers: JSON as it is, without Jinja's escapes for HTML."""
        self.narrow(len(indent) if isinstance(indent, str) else indent)
        value = self.compared(value)
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def do_indent(self, text: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
        """The filter `indent`."""
        self.narrow(len(width) if isinstance(width, str) else width)
        text = str(self.compared(text))
        self.fits(len(text) + (text.count("\n") + 1) * (len(width) if isinstance(width, str) else width))
        result: str = FILTERS["indent"](text, width, first, blank)
        return result

    def do_center(self, text: Any, width: int = 80) -> str:
        """The filter `center`."""
        self.narrow(width)
        return str(self.compared(text)).center(width)

    def do_format(self, pattern: Any, *values: Any) -> str:
        """The filter `format`, printf-style."""
        self.formatted(str(pattern), values)
        return str(pattern) % values

    def do_round(self, value: float, precision: int = 0, method: str = "common") -> float:
        """The filter `round`."""
        self.narrow(precision)
        result: float = FILTERS["round"](value, max(-20, min(20, precision)), method)
        return result

    def do_sort(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        """The filter `sort`."""
        return FILTERS["sort"](self, self.compared(list(value)), *args, **kwargs)
