"""Chat templates: Jinja2 programs that arrive with a checkpoint, run so that they can only make text.

A template finds here what transformers gives it (utils/chat_template_utils.py): an immutable sandbox, `trim_blocks`
and `lstrip_blocks`, loop controls, `{% generation %}`, `tojson`, `raise_exception`, `strftime_now`. The sandbox keeps
it away from Python, but not from looping forever or filling the memory. So all its work is counted here: every block
that is entered, every item that is passed on, every comparison and every text that is built spends from one allowance,
and what would be large is refused before it is made. There are no clocks and no signals, so this holds in any thread.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, Sized, ValuesView
from dataclasses import dataclass
from datetime import datetime
from functools import partial, wraps
from itertools import chain
from string import Formatter
from types import BuiltinMethodType, FunctionType, MethodType
from typing import Any, NoReturn, cast
from warnings import warn

from jinja2 import Environment, TemplateError, nodes, pass_environment
from jinja2.environment import Template
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import FILTERS
from jinja2.nodes import EvalContext
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.tests import TESTS
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from ..errors import InputError, InputWarning

# Units of work, each some 0.5 µs or 256 bytes at worst: so many in any case, so many for each that reading the
# conversation takes, and at most so many. Real templates spend 100 to 400 on a message, and on a long one some eight
# times its reading; some look at each message again for each other one (Gemma 4).
ALLOWANCE, SHARE, MOST = 1_000_000, 4_000, 40_000_000
CHARACTERS, ITEMS = 64, 16  # that are copied or compared in one unit
LONGEST_TEMPLATE = 1 << 17  # characters
LONGEST_TEXT = 1 << 24  # characters, of any text on the way and of the result
LARGEST_INTEGER = 4096  # bits
WIDEST = 999  # characters, of a padded field or an indentation
DEEPEST = 900  # lists in lists; Python itself goes no deeper
SCALARS = frozenset((int, float, bool, type(None)))


class TooMuchError(Exception):
    """The template asks for more than any honest one needs."""


class RefusalError(Exception):
    """The template called `raise_exception`."""


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
        tools: JSON schemas of functions, for templates that offer them to the model.
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
    except RefusalError as error:
        problem = f"refuses these messages: {error}"
    except SecurityError as error:
        problem = f"oversteps its sandbox: {error}"
    except TooMuchError as error:
        problem = f"does too much: {error}"
    except RecursionError:
        problem = "does too much: it nests too deeply"
    except (TemplateError, SyntaxError) as error:
        problem = f"cannot be used: {error}"
    except (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError) as error:
        problem = f"fails on these messages: {type(error).__name__}: {error}"
    raise InputError(f"the chat template {one_line(problem)}")


PROBE = "What 7 words does this message say?"


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template with its variables, for messages whose content is text.

    What the template does with a text is found by trying: published templates expect either.
    """

    template: str
    variables: Mapping[str, Any]

    def render(self, messages: list[dict[str, Any]]) -> str:
        """The prompt; see `render`. No message's text is lost, or the template's own refusal is raised."""
        system = messages[0] if messages and messages[0].get("role") == "system" else None
        if system is None or self.says("system") or self.says("system", in_parts):
            return self._rendered(messages)
        asked = next((i for i, message in enumerate(messages) if message.get("role") == "user"), None)
        if asked is None or not all(isinstance(m.get("content"), str) for m in (system, messages[asked])):
            return self._rendered(messages)
        warn("the chat template has no system role: that message goes before the first user's", InputWarning, 4)
        joined = {**messages[asked], "content": f"{system['content']}\n\n{messages[asked]['content']}"}
        return self._rendered([*messages[1:asked], joined, *messages[asked + 1 :]])

    def _rendered(self, messages: list[dict[str, Any]]) -> str:
        texts = any(isinstance(message.get("content"), str) for message in messages)
        parts = texts and not self.says("user") and self.says("user", in_parts)
        return render(self.template, list(map(in_parts, messages)) if parts else messages, **self.variables)

    def says(self, role: str, form: Callable[[dict[str, Any]], dict[str, Any]] = dict) -> bool:
        """Whether the template writes what a message of this role says. True where it refuses even a user's."""
        user = {"role": "user", "content": PROBE[::-1]}
        probe = [{"role": role, "content": PROBE}, *([user] if role != "user" else [])]
        try:
            return PROBE in render(self.template, list(map(form, probe)), **self.variables)
        except InputError:
            return role == "user" and form is dict


def in_parts(message: dict[str, Any]) -> dict[str, Any]:
    """A message whose text is a list of one part."""
    content = message.get("content")
    return {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else message


def one_line(text: str) -> str:
    """`text` in one line of at most 300 characters."""
    line = " ".join(text[:1000].split())
    return line if len(line) <= 300 else f"{line[:299]}…"


def plain(value: Any) -> Any:
    """A copy made of dicts, lists and scalars only, so that a template reaches no method of a caller's object."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    raise TypeError(f"a {type(value).__name__} cannot be given to a chat template, only what JSON can hold")


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of one rendering, with its allowance of work."""

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%", "**"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # else constant expressions would be evaluated while compiling
            finalize=written,
            cache_size=0,
            extensions=[Generation, loopcontrols],
        )
        self.left = ALLOWANCE
        self.length = 0
        self.functions: dict[str, Any] = {
            "dict": dict,
            "namespace": TemplateNamespace,
            "raise_exception": raise_exception,
            "range": self.globals["range"],  # the sandbox's, of at most 100,000 numbers
            "strftime_now": strftime_now,
        }
        self.globals = dict(self.functions)
        self.filters = {
            **{name: self.metered(FILTERS[name], self.glanced) for name in GLANCING},
            **{name: self.metered(FILTERS[name], self.counted) for name in PASSING},
            **{name: self.metered(FILTERS[name], self.compared) for name in READING},
            **{name: self.metered(FILTERS[name], self.ordered) for name in ORDERING},
            "e": self.escape,
            "escape": self.escape,
            "center": self.center,
            "format": self.format,
            "indent": self.indent,
            "join": self.join,
            "replace": self.replace,
            "round": self.round,
            "safe": self.string,
            "string": self.string,
            "title": self.title,
            "tojson": self.tojson,
        }
        self.tests = {
            name: self.metered(test, self.compared if name in COMPARING else self.glanced)
            for name, test in TESTS.items()
        }

    def run(self, source: str, variables: dict[str, Any]) -> str:
        """Compiles and renders a template."""
        tree = self.parse(source)
        for kind in (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends):
            if tree.find(kind) is not None:
                raise SecurityError("it reads other templates")
        tree = cast("nodes.Template", Reports().visit(tree))
        tree.set_environment(self).set_lineno(1)
        template = Template.from_code(self, self.compile(tree, filename="<chat template>"), self.globals)
        self.compared(variables)
        self.left = min(ALLOWANCE + SHARE * (ALLOWANCE - self.left), MOST)
        return "".join(template.root_render_func(template.new_context(variables)))

    # What is reported, see Reports

    def spend(self, units: int) -> None:
        """Takes from the allowance."""
        self.left -= units
        if self.left < 0:
            raise TooMuchError("it needs more work than a conversation can need")

    def enter(self, units: int, characters: int) -> None:
        """A block is entered that has so many expressions and writes so many characters of its own."""
        self.spend(units)
        self.grow(characters)

    def grow(self, characters: int) -> None:
        """Counts what is written, be it to the result or to a macro's."""
        self.length += characters
        self.spend(characters // CHARACTERS)
        if self.length > LONGEST_TEXT:
            raise TooMuchError(f"it writes more than {LONGEST_TEXT:,} characters")

    def glanced(self, value: Any) -> Any:
        """A value is looked at, or an iterator used up item by item."""
        self.spend(1)
        return self.counted(value) if isinstance(value, Iterator) else value

    def counted(self, items: Iterable[Any]) -> Iterator[Any]:
        """Items are passed on one by one."""
        for item in items or ():
            self.spend(1)
            yield item

    def copied(self, value: Any) -> Any:
        """A text or collection is gone through, but not what is inside."""
        size = len(value) // (CHARACTERS if isinstance(value, str) else ITEMS) if isinstance(value, Sized) else 0
        self.spend(1 + size)
        return value

    def compared(self, value: Any) -> Any:
        """A value is gone through to its leaves, each as often as it occurs; an iterator is used up item by item."""
        kind = type(value)
        if kind is str:
            self.spend(1 + len(value) // CHARACTERS)
        elif kind in SCALARS:
            self.spend(1)
        elif isinstance(value, Iterator):
            self.spend(1)
            return self.counted(value)
        else:
            self.leaves(value)
        return value

    def leaves(self, value: Any) -> None:
        """Spends for all that is in a value. Most of a long conversation's work is here: `type` is quick."""
        units, open_ = 0, [iter((value,))]
        while open_:
            for item in open_[-1]:
                kind = type(item)
                if kind is str:
                    units += 1 + len(item) // CHARACTERS
                elif kind in SCALARS:
                    units += 1
                elif isinstance(item, Mapping | list | tuple | set | KeysView | ItemsView | ValuesView):
                    units += 1 + len(item) // ITEMS
                    open_.append(chain(item, item.values()) if isinstance(item, Mapping) else iter(item))
                    break
                else:
                    units += 1 + (len(item) // CHARACTERS if isinstance(item, Sized) else 0)
            else:
                open_.pop()
            if units > self.left or len(open_) > DEEPEST:
                break
        self.spend(units)
        if open_:
            raise RecursionError

    def ordered(self, value: Any) -> Any:
        """The items of a value are compared with each other."""
        self.spend(4 * len(value) if isinstance(value, Sized) else 1)
        return self.compared(value)

    def searched(self, value: Any) -> Any:
        """Something is looked up in a value."""
        return value if isinstance(value, Mapping) else self.compared(value)

    def fits(self, characters: int) -> None:
        """A text of this length is about to be made."""
        if characters > LONGEST_TEXT:
            raise TooMuchError(f"it makes a text of {characters:,} characters")
        self.spend(1 + characters // CHARACTERS)

    # Calls

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 (so in Jinja)
        """Calls what is harmless: reports, macros and loops, our functions, methods of texts, lists and dicts."""
        owner = __obj.__self__ if isinstance(__obj, MethodType | BuiltinMethodType) else None
        if owner is __self:
            return __obj(*args)
        if isinstance(__obj, Macro):  # passes what it is given on, and looks at nothing
            __self.spend(1 + len(args) + len(kwargs))
            return super().call(__context, __obj, *args, **kwargs)
        __self.compared(args)
        __self.compared({name: value for name, value in kwargs.items() if not name.startswith("_")})
        if isinstance(__obj, BuiltinMethodType):
            __obj = __self.method(__obj, args)
        elif isinstance(__obj, FunctionType) and "__wrapped__" in vars(__obj):  # str.format, as the sandbox wraps it
            __self.fields(vars(__obj)["__wrapped__"].__self__, (args, kwargs))
        elif not (
            isinstance(__obj, LoopContext | Undefined)
            or isinstance(owner, LoopContext)
            or any(__obj is function for function in __self.functions.values())
        ):
            raise SecurityError(f"it calls a {type(__obj).__name__}, which is not allowed")
        return super().call(__context, __obj, *args, **kwargs)

    def method(self, method: Any, args: tuple[Any, ...]) -> Callable[..., Any]:
        """A method of a text, list or dict, so that calling it is counted."""
        owner, name = method.__self__, method.__name__
        if name not in METHODS.get(type(owner), ()):
            raise SecurityError(f"it calls {type(owner).__name__}.{name}, which is not allowed")
        if name in ("join", "replace"):
            return partial(self.join, separator=owner) if name == "join" else partial(self.replace, owner)
        if name in ("center", "ljust", "rjust", "zfill"):
            self.narrow(*args[:1])
        if name in ("count", "index"):
            self.compared(owner)
        self.copied(owner)
        return lambda *args, **kwargs: self.copied(method(*args, **kwargs))

    def unsafe_undefined(self, obj: Any, attribute: str) -> Any:
        """Refuses at once what the sandbox would only refuse to use.

        It also refuses what llama.cpp allows and Kimi K2's template does; but a list here is a copy, and counted.
        """
        if type(obj) is list and attribute in ("append", "pop"):
            return getattr(obj, attribute)
        raise SecurityError(f"it reads {type(obj).__name__}.{attribute}, which is not allowed")

    # Operators

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic, with results of a modest size."""
        self.spend(1)
        if isinstance(left, int | float) and isinstance(right, int | float):
            bits = [value.bit_length() if isinstance(value, int) else 64 for value in (left, right)]
            if (bits[0] * abs(right) if operator == "**" else sum(bits)) > LARGEST_INTEGER:
                raise TooMuchError(f"it computes numbers of more than {LARGEST_INTEGER:,} bits")
        elif isinstance(left, str) and isinstance(right, str) and operator == "+":
            self.fits(len(left) + len(right))
        elif operator == "%":
            self.fields(left, right)
        elif operator == "*":
            value, times = (right, left) if isinstance(left, int) else (left, right)
            self.fits(len(value) * times)
            self.spend(0 if isinstance(value, str) else len(value) * max(0, times) // ITEMS)
        else:
            self.copied(left)
            self.copied(right)
        return super().call_binop(context, operator, left, right)

    # Filters

    def metered(self, function: Any, policy: Callable[[Any], Any]) -> Callable[..., Any]:
        """A filter or test whose value spends as `policy` says; its other arguments are small."""

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            first = 1 if isinstance(args[0], Context | EvalContext | Environment) else 0
            rest = map(self.compared, args[first + 1 :])
            return self.glanced(function(*args[:first], policy(args[first]), *rest, **kwargs))

        return call

    def fields(self, pattern: str, values: Any) -> None:
        """`pattern` is about to be filled with `values`, printf-style or as str.format does it."""
        self.copied(pattern)
        wide = re.search(r"%[^%a-zA-Z]*(\*|\d{4})", pattern) is not None
        if "{" in pattern and not wide:
            wide = any("{" in spec or re.search(r"\d{4}", spec) for _, _, spec, _ in Formatter().parse(pattern) if spec)
        if wide:
            raise TooMuchError(f"it pads to more than {WIDEST} characters")
        self.fits(len(pattern) + (pattern.count("%") + pattern.count("{")) * (WIDEST + len(str(self.compared(values)))))

    def narrow(self, width: int | str | None = None) -> int:
        """A width of padding or indentation in characters, refused where it is too large."""
        width = len(width) if isinstance(width, str) else width or 0
        if width > WIDEST:
            raise TooMuchError(f"it pads to more than {WIDEST} characters")
        return width

    def string(self, value: Any) -> str:
        """`value` as text."""
        return str(self.compared(value))

    def escape(self, value: Any) -> str:
        """Text for HTML."""
        return str(FILTERS["escape"](self.string(value)))

    def title(self, value: Any) -> str:
        """Every Word With A Capital."""
        text = self.string(value)
        self.spend(len(text))
        return str(FILTERS["title"](text))

    def join(self, values: Iterable[Any], separator: str = "", attribute: str | int | None = None) -> str:
        """The texts of all items, or of one attribute of each, with a separator between."""
        items = self.counted(values)
        texts = [self.string(item if attribute is None else self.getitem(item, attribute)) for item in items]
        self.fits(sum(map(len, texts)) + len(str(separator)) * len(texts))
        return str(separator).join(texts)

    def replace(self, value: Any, old: str, new: str, count: int | None = None) -> str:
        """`value` with `new` for each, or for the first `count`, of `old`."""
        text, old, new = self.string(value), str(old), str(new)
        times = text.count(old) if count is None or count < 0 else min(count, text.count(old))
        self.fits(len(text) + times * len(new))
        return text.replace(old, new, times)

    def center(self, value: Any, width: int = 80) -> str:
        """`value` in the middle of a field."""
        return self.string(value).center(self.narrow(width))

    def format(self, pattern: str, *values: Any) -> str:
        """`pattern` filled printf-style."""
        self.fields(pattern, values)
        return pattern % values

    def indent(self, value: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
        """`value` with each line indented."""
        text = self.string(value)
        self.fits(len(text) + (text.count("\n") + 1) * self.narrow(width))
        return str(FILTERS["indent"](text, width, first, blank))

    def round(self, value: float, precision: int = 0, method: str = "common") -> Any:
        """`value` rounded to so many decimals."""
        return FILTERS["round"](value, max(-20, min(20, precision)), method)

    def tojson(
        self,
        value: Any,
        ensure_ascii: bool = False,
        indent: int | str | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """JSON as it is, without the escapes for HTML of Jinja's own filter."""
        self.narrow(indent)
        value = self.compared(value)
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@pass_environment
def written(sandbox: Sandbox, value: Any) -> str:
    """The text of `{{ value }}`."""
    text = sandbox.string(value)
    sandbox.grow(len(text))
    return text


# Filters by what they do with their value: look at it, pass its items on, read it to its leaves, or order its items
GLANCING = ("abs", "count", "d", "default", "first", "float", "int", "items", "last", "length")
PASSING = ("list", "map", "reject", "rejectattr", "select", "selectattr")
READING = ("capitalize", "lower", "reverse", "trim", "upper")
ORDERING = ("dictsort", "max", "min", "sort", "unique")

COMPARING = frozenset("in == eq equalto != ne > gt greaterthan ge >= < lt lessthan <= le lower upper".split())

METHODS: dict[type, frozenset[str]] = {
    str: frozenset(
        """capitalize casefold center count endswith find index isalnum isalpha isascii isdecimal isdigit isidentifier
        islower isnumeric isprintable isspace istitle isupper join ljust lower lstrip partition removeprefix
        removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith strip swapcase
        title upper zfill""".split()
    ),
    dict: frozenset(("copy", "get", "items", "keys", "values")),
    list: frozenset(("append", "copy", "count", "index", "pop")),
    tuple: frozenset(("count", "index")),
}


class Reports(NodeTransformer):
    """Makes a template report its work: where something could be large, it first calls a method of Sandbox."""

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        """The body of a loop, condition, macro … begins with a report of what is in it."""
        blocks = {field: getattr(node, field) for field in BODIES if field in node.fields}
        sizes = {field: (1 + sum(map(weight, block)), sum(map(text_length, block))) for field, block in blocks.items()}
        super().generic_visit(node, *args, **kwargs)
        for field, size in sizes.items():
            block = getattr(node, field)
            if block or field == "body":
                report = nodes.ExprStmt(reported("enter", *map(nodes.Const, size)))
                setattr(node, field, [report, *block])
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 (so in Jinja)
        """The condition of a loop is evaluated for every item, also where no item passes."""
        self.generic_visit(node)
        if node.test is not None:
            node.test = reported("compared", node.test)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        """A comparison takes as long as its sides are large."""
        self.generic_visit(node)
        node.expr = reported("compared", node.expr)
        for operand in node.ops:
            operand.expr = reported("searched" if operand.op in ("in", "notin") else "compared", operand.expr)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        """`a ~ b` makes a text."""
        self.generic_visit(node)
        return reported("join", nodes.List(node.nodes))

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        """A slice copies; a key is hashed."""
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = reported("copied", node.node)
        elif not isinstance(node.arg, nodes.Const):
            node.arg = reported("compared", node.arg)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:  # noqa: N802
        """A key is hashed."""
        self.generic_visit(node)
        node.key = reported("compared", node.key)
        return node


BODIES = ("body", "else_")


def reported(method: str, *args: nodes.Node) -> nodes.Call:
    """A call of a method of Sandbox, which no template can spell."""
    return nodes.Call(nodes.EnvironmentAttribute(method), list(args), [], None, None)


def weight(node: nodes.Node) -> int:
    """How many expressions a statement evaluates, those in its own blocks apart."""
    return 1 + sum(map(weight, node.iter_child_nodes(exclude=BODIES)))


def text_length(node: nodes.Node) -> int:
    """How many characters a statement writes as they stand."""
    if not isinstance(node, nodes.Output):
        return 0
    return sum(len(child.data) for child in node.nodes if isinstance(child, nodes.TemplateData))


class Generation(Extension):
    """`{% generation %}` marks for training what the assistant wrote; what is inside is rendered as it stands."""

    tags = {"generation"}  # noqa: RUF012 (so in Jinja)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The statements inside."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class TemplateNamespace(Namespace):
    """`namespace`, without names that mean something to Python, printed by its name and not its contents."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise SecurityError(f"it writes {name} of a namespace, which is not allowed")
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<namespace>"


def raise_exception(message: Any) -> NoReturn:
    """What a template calls when it does not want the messages."""
    raise RefusalError(message)


def strftime_now(pattern: str) -> str:
    """The time now, as `pattern` says."""
    if len(pattern) > WIDEST:
        raise TooMuchError(f"a pattern for the time of {len(pattern):,} characters")
    return datetime.now().strftime(pattern)
