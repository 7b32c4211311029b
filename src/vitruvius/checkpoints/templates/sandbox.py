"""The environment that a template runs in: jinja2's immutable sandbox, in which all work is counted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial, wraps
from string import Formatter
from types import BuiltinMethodType, FunctionType, MethodType
from typing import Any, NoReturn, cast

from jinja2 import Environment, nodes, pass_environment
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

from .allowance import ITEMS, LARGEST_INTEGER, WIDEST, Allowance, TooMuchError
from .reports import Reports


class RefusalError(Exception):
    """The template called `raise_exception`."""


class Sandbox(Allowance, ImmutableSandboxedEnvironment):
    """The environment of one rendering, with its allowance of work."""

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%", "**"))

    def __init__(self) -> None:
        Allowance.__init__(self)
        ImmutableSandboxedEnvironment.__init__(
            self,
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # else constant expressions would be evaluated while compiling
            finalize=written,
            cache_size=0,
            extensions=[Generation, loopcontrols],
        )
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
        self.grant(variables)
        return "".join(template.root_render_func(template.new_context(variables)))

    # Calls

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 (so in Jinja)
        """Calls what is harmless: reports, macros and loops, our functions, methods of texts, lists and dicts."""
        if type(__obj) is MethodType and __obj.__self__ is __self:  # a report
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
            or (type(__obj) is MethodType and isinstance(__obj.__self__, LoopContext))
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
