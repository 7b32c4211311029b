"""The shape of the house: who may import whom, what stays without torch, budgets, and the public names.

Each rule is a function from a file to what is wrong with it, and is shown a file that breaks it.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from statistics import median

import pytest

import vitruvius as vt
from vitruvius import spec

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "vitruvius"

# Part of the package -> the other parts that it may import. `models` and `edit` are glue: they join specs, files and
# modules.
ARROWS = {
    "errors": "",
    "terminal": "",
    "spec": "",
    "architectures": "spec",
    "catalog": "errors CallablePackage",
    "sharding": "errors spec",
    "cost": "CallablePackage errors spec catalog sharding",
    "views": "errors terminal spec catalog cost sharding",
    "nn": "errors spec",
    "checkpoints": "errors spec architectures catalog",
    "models": "errors spec architectures catalog checkpoints nn",
    "tuning": "errors spec checkpoints models nn",
    "exported": "spec checkpoints nn",
    "saving": "errors spec architectures catalog checkpoints exported models nn",
    "edit": "errors spec checkpoints",
    "sizing": "errors spec architectures catalog checkpoints cost",
    "gallery": "spec checkpoints cost sizing views",
    "slicing": "errors spec checkpoints models nn",
    "native": "errors spec checkpoints",
    "inference": "errors spec architectures checkpoints models saving nn native __version__",
    "training": "errors spec architectures cost checkpoints models saving nn sharding tuning __version__",
    "lab": "errors spec cost training",
    "server": "*",
    "cli": "*",
}
STANDARD_ONLY = ("spec", "architectures")
NEVER_TORCH = ("spec", "architectures", "catalog", "sharding", "cost", "views", "native", "errors")
TORCH_INSIDE_FUNCTIONS = ("checkpoints", "inference", "cli", "models", "saving", "tuning", "edit", "sizing", "")
HEAVY = {"torch", "transformers", "huggingface_hub", "tokenizers", "jinja2", "rich", "fontTools", "safetensors"}
MEDIAN_ARCHITECTURE, LONGEST_ARCHITECTURE, LONGEST_FUNCTION = 45, 80, 60  # lines of code, see `code_lines`
MOST_FIELDS = 12
LARGEST_NATIVE = 4000  # lines of C++ that are neither blank nor only a comment


@dataclass(frozen=True)
class File:
    """A module of the package, by its path below src/vitruvius."""

    path: str
    text: str

    @property
    def unit(self) -> str:
        """The part of the package that it belongs to, "" for the package's own __init__."""
        return self.path.partition("/")[0].removesuffix(".py").replace("__init__", "")

    @property
    def package(self) -> list[str]:
        return ["vitruvius", *self.path.split("/")[:-1]]

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)


FILES = [File(str(path.relative_to(SOURCE)), path.read_text("utf-8")) for path in sorted(SOURCE.rglob("*.py"))]
BY_FILE = pytest.mark.parametrize("file", FILES, ids=lambda file: file.path)


# ------------------------------------------------------------------ imports


@dataclass(frozen=True)
class Import:
    """One imported name, in full; `when` is "loading", "running" (inside a function) or "checking" (for types only)."""

    name: str
    when: str

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]


def imports(file: File) -> Iterator[Import]:
    yield from _imports(file, file.tree, "loading")


def _imports(file: File, node: ast.AST, when: str) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from (Import(alias.name, when) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = file.package[: len(file.package) - node.level + 1] if node.level else []
        module = ".".join([*above, *([node.module] if node.module else [])])
        yield from (Import(f"{module}.{alias.name}", when) for alias in node.names)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        when = "running"
    for child in ast.iter_child_nodes(node):
        checking = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and child in node.body
        yield from _imports(file, child, "checking" if checking else when)


def against_arrows(file: File) -> list[str]:
    """Imports of another part of the package that no arrow points to."""
    if not file.unit:
        return []
    if file.unit not in ARROWS:
        return [f"{file.unit} has no arrows"]
    allowed = ARROWS[file.unit].split()
    parts = {name.split(".")[1] for name in (i.name for i in imports(file)) if name.startswith("vitruvius.")}
    wrong = sorted(parts - {file.unit} - set(allowed)) if "*" not in allowed else sorted(parts & {"cli"} - {file.unit})
    return [f"{file.unit} imports {part}" for part in wrong]


def foreign(file: File) -> list[str]:
    """Imports from outside where only the standard library is allowed, and of torch where there is none."""
    found = []
    for each in imports(file):
        if file.unit in STANDARD_ONLY and each.top not in {"vitruvius", *sys.stdlib_module_names}:
            found.append(f"{each.top} is not in the standard library")
        elif each.top in {"torch", "transformers"} and file.unit in NEVER_TORCH:
            found.append(f"{each.top} does not belong here")
        elif each.top in {"torch", "transformers"} and file.unit in TORCH_INSIDE_FUNCTIONS and each.when == "loading":
            found.append(f"{each.top} is imported when the module is loaded")
    return found


def both_engines(file: File) -> list[str]:
    """A module of inference stands on nn or on native."""
    parts = {each.name.split(".")[1] for each in imports(file) if each.name.startswith("vitruvius.")}
    return ["imports nn and native"] if file.unit == "inference" and {"nn", "native"} <= parts else []


def siblings(file: File) -> list[str]:
    """An architecture stands alone: it imports no other, only what they share, and defines no class to inherit from.
    What they share imports none of them."""
    if file.unit != "architectures" or file.path == "architectures/__init__.py":
        return []
    ours = "vitruvius.architectures."
    names = [each.name for each in imports(file) if each.name.startswith(ours)]
    found = [name for name in names if not name.startswith(f"{ours}shared.")]
    return found + [node.name for node in ast.walk(file.tree) if isinstance(node, ast.ClassDef)]


@BY_FILE
def test_imports_follow_the_arrows(file: File) -> None:
    assert against_arrows(file) + foreign(file) + both_engines(file) + siblings(file) == []


@pytest.mark.parametrize(
    ("check", "path", "text"),
    [
        (against_arrows, "spec/norm.py", "from ..errors import InputError"),
        (against_arrows, "spec/norm.py", "from .. import nn"),
        (against_arrows, "nn/ops/grouped.py", "from ...cost import cost"),
        (against_arrows, "cost/__init__.py", "def f():\n    import vitruvius.nn"),
        (against_arrows, "catalog/__init__.py", "from vitruvius import spec"),
        (against_arrows, "checkpoints/load.py", "if TYPE_CHECKING:\n    from ..nn import Decoder"),
        (against_arrows, "server/api.py", "from ..cli import main"),
        (against_arrows, "extra/new.py", ""),
        (foreign, "spec/base.py", "import numpy as np"),
        (foreign, "architectures/llama.py", "def f():\n    from yaml import load"),
        (foreign, "views/svg.py", "def f():\n    import torch"),
        (foreign, "cost/__init__.py", "if TYPE_CHECKING:\n    from torch import Tensor"),
        (foreign, "checkpoints/tensors.py", "from torch import Tensor"),
        (foreign, "models.py", "class A:\n    import torch.nn"),
        (foreign, "__init__.py", "try:\n    import torch\nexcept ImportError:\n    pass"),
        (both_engines, "inference/speculate.py", "from ..nn import Decoder\ndef f():\n    from ..native import Engine"),
        (siblings, "architectures/qwen3.py", "from .llama import llama"),
        (siblings, "architectures/qwen3.py", "class Qwen3(Llama): pass"),
        (siblings, "architectures/shared/layers.py", "from ..llama import llama"),
    ],
)
def test_wrong_imports_are_found(check: object, path: str, text: str) -> None:
    assert callable(check)
    assert len(check(File(path, text))) == 1


def test_right_imports_are_not_found() -> None:
    assert siblings(File("architectures/qwen3.py", "from .shared import pre_norm")) == []
    assert siblings(File("architectures/shared/layers.py", "from .attention import window")) == []
    text = "import json\nfrom ..spec import Spec\nif TYPE_CHECKING:\n    import torch\ndef f():\n    import torch"
    file = File("checkpoints/sources.py", text)
    assert [each.when for each in imports(file)] == ["loading", "loading", "checking", "running"]
    assert against_arrows(file) + foreign(file) + both_engines(file) + siblings(file) == []


def circles(files: list[File]) -> list[list[str]]:
    """Modules that import each other in a circle, when they are loaded or inside a function."""
    names = {".".join([*file.package, *Path(file.path).stem.replace("__init__", "").split()]): file for file in files}

    def module(name: str) -> str:
        while name not in names and "." in name:
            name = name.rpartition(".")[0]
        return name

    arrows = {
        name: {module(each.name) for each in imports(file) if each.when != "checking"} & names.keys() - {name}
        for name, file in names.items()
    }
    while free := {name for name, others in arrows.items() if not others & arrows.keys()}:
        arrows = {name: others for name, others in arrows.items() if name not in free}
    while free := arrows.keys() - set().union(*arrows.values()):  # what imports a circle without being part of one
        arrows = {name: others for name, others in arrows.items() if name not in free}
    return [sorted(arrows)] * bool(arrows)


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles([file for file in FILES if file.unit]) == []


def test_a_circle_is_found() -> None:
    a, b = File("nn/a.py", "from .b import f"), File("nn/b.py", "def f():\n    from .a import g")
    outside = [File("nn/c.py", "from .a import x"), File("nn/d.py", "")]
    assert circles([a, b, *outside]) == [["vitruvius.nn.a", "vitruvius.nn.b"]]
    assert circles([a, File("nn/b.py", "if TYPE_CHECKING:\n    from .a import g"), *outside]) == []


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_what_needs_no_torch_is_imported_without_it() -> None:
    """Also indirectly: with torch made impossible, every module of these parts can still be imported."""
    modules = [
        ".".join(["vitruvius", *Path(file.path).with_suffix("").parts]).removesuffix(".__init__")
        for file in FILES
        if file.unit in {*NEVER_TORCH, *TORCH_INSIDE_FUNCTIONS} and not file.path.endswith("__main__.py")
    ]
    assert len(modules) > 40
    without = "import sys, importlib; sys.modules.update(torch=None, transformers=None)"
    run(f"{without}\nfor name in {modules}: importlib.import_module(name)")


def test_an_indirect_import_of_torch_would_be_seen() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run("import sys; sys.modules['torch'] = None; import vitruvius.nn")


def test_inspecting_loads_nothing_heavy() -> None:
    code = (
        "import sys, vitruvius as vt\n"
        "from vitruvius.cost import cost\n"
        "cost(vt.architecture('deepseek-v3'))\n"
        f"print(*sorted({HEAVY} & set(sys.modules)))"
    )
    assert run(code) == ""


# ------------------------------------------------------------------ budgets


WITHOUT_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(file: File) -> set[int]:
    """The lines that a reader reads: imports, docstrings, comments and blank lines aside."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(file.text).readline):
        if token.type not in WITHOUT_CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(file.tree):
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if docstring or isinstance(node, ast.Import | ast.ImportFrom):
            lines -= set(range(node.lineno, node.end_lineno + 1))
    return lines


def is_architecture(file: File) -> bool:
    return file.path.count("/") == 1 and file.unit == "architectures" and not file.path.endswith("__init__.py")


def too_long(file: File) -> list[str]:
    """Architecture files above their budget, and functions above theirs in these files and in what they share."""
    if file.unit != "architectures":
        return []
    code = code_lines(file)
    found = [f"{len(code)} lines"] if is_architecture(file) and len(code) > LONGEST_ARCHITECTURE else []
    for node in ast.walk(file.tree):
        if isinstance(node, ast.FunctionDef):
            lines = len(code & set(range(node.lineno, node.end_lineno + 1)))
            found += [f"{node.name} has {lines} lines"] if lines > LONGEST_FUNCTION else []
    return found


@BY_FILE
def test_architectures_are_short(file: File) -> None:
    assert too_long(file) == []


def test_most_architectures_are_shorter_still() -> None:
    lengths = [len(code_lines(file)) for file in FILES if is_architecture(file)]
    assert len(lengths) > 30
    assert median(lengths) <= MEDIAN_ARCHITECTURE


def test_lines_of_an_architecture_are_counted() -> None:
    top = '"""A\nfile."""\n\nfrom ..spec import (\n    A,\n)\n# why\nx = """a\nb"""\n'
    text = top + '\ndef f():\n    """Doc."""\n    return (\n        1,  # one\n    )\n'
    assert sorted(code_lines(File("architectures/a.py", text))) == [8, 9, 11, 13, 14, 15]


def test_what_is_too_long_is_found() -> None:
    statement = "    x = 1\n"
    assert too_long(File("architectures/a.py", "import b\n\ndef a():\n" + 59 * statement)) == []
    assert too_long(File("architectures/a.py", "def a():\n" + 60 * statement)) == ["a has 61 lines"]
    assert too_long(File("architectures/shared/a.py", "def a():\n" + 60 * statement)) == ["a has 61 lines"]
    assert too_long(File("architectures/a.py", "import b\n# c\n" + "x = 1\n" * 80)) == []
    assert too_long(File("architectures/a.py", "x = 1\n" * 81)) == ["81 lines"]
    assert too_long(File("nn/a.py", "x = 1\n" * 121)) == []


def code(text: str) -> list[str]:
    """The lines of C++ that are neither blank nor only a comment."""
    bare = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return [line for line in bare.splitlines() if line.strip() and not line.strip().startswith("//")]


def test_the_native_library_is_small() -> None:
    """All of it, for every instruction set, without the naive references."""
    folder = SOURCE / "native" / "cpp"
    files = [path for path in folder.rglob("*") if path.suffix in (".h", ".cpp") and "naive" not in path.parts]
    assert len(files) > 30
    assert sum(len(code(path.read_text())) for path in files) < LARGEST_NATIVE


def test_lines_of_code_are_counted() -> None:
    assert code("int a; // b\n\n  // c\n/* d\n e */\nf();\n") == ["int a; // b", "f();"]


def nouns() -> list[type]:
    kinds = [kind for kind in vars(spec).values() if isinstance(kind, type) and is_dataclass(kind)]
    return [kind for kind in kinds if kind.__module__.startswith("vitruvius.spec")]


@pytest.mark.parametrize("noun", nouns(), ids=lambda noun: noun.__name__)
def test_nouns_are_small(noun: type) -> None:
    assert len(fields(noun)) <= MOST_FIELDS


def test_the_nouns_are_found() -> None:
    assert {"Attention", "Router", "Decoder", "RMSNorm", "Weight"} <= {noun.__name__ for noun in nouns()}
    assert max(len(fields(noun)) for noun in nouns()) > 8


def sniffing(file: File) -> list[str]:
    """Calls of hasattr: a thing's type says what it has."""
    names = [node.func for node in ast.walk(file.tree) if isinstance(node, ast.Call)]
    return [f"line {name.lineno}" for name in names if isinstance(name, ast.Name) and name.id == "hasattr"]


def broad(file: File) -> list[str]:
    """Handlers that catch everything, by a bare `except` or by the name, and give no reason on their line."""
    found, lines = [], file.text.splitlines()
    for node in ast.walk(file.tree):
        if isinstance(node, ast.ExceptHandler):
            caught = (
                {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)} if node.type else {"Exception"}
            )
            if caught & {"Exception", "BaseException"} and "#" not in lines[node.lineno - 1]:
                found.append(f"line {node.lineno}")
    return found


@BY_FILE
def test_nothing_is_guessed_or_swallowed(file: File) -> None:
    assert sniffing(file) + broad(file) == []


def test_guessing_and_swallowing_are_found() -> None:
    assert sniffing(File("nn/a.py", "x = 1\nif hasattr(x, 'y'): pass")) == ["line 2"]
    for handler in ("except:", "except Exception:", "except (KeyError, BaseException) as error:"):
        assert broad(File("nn/a.py", f"try:\n    pass\n{handler}\n    pass")) == ["line 3"]
    for handler in ("except (KeyError, OSError):", "except Exception:  # the library raises nothing else"):
        assert broad(File("nn/a.py", f"try:\n    pass\n{handler}\n    pass")) == []


# ------------------------------------------------------------------ nouns are described where they live

NOUNS = {name for name, kind in vars(spec).items() if isinstance(kind, type) and issubclass(kind, spec.Spec)} - {"Spec"}


def type_tests(file: File) -> list[str]:
    """In views and server, outside the room of the descriptions: questions of which noun something is. What a view
    needs to know of a noun, its description says."""
    if file.unit not in ("views", "server") or file.path.startswith("views/nouns/"):
        return []
    found = []
    for node in ast.walk(file.tree):
        asked: list[ast.expr] = []
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("isinstance", "issubclass")
        ):
            asked = node.args[1:]
        elif isinstance(node, ast.MatchClass):
            asked = [node.cls]
        elif isinstance(node, ast.Compare) and any(map(_is_a_type, (node.left, *node.comparators))):
            asked = [node.left, *node.comparators]
        elif isinstance(node, ast.Dict):  # a table of nouns
            asked = [key for key in node.keys if key]
        names = {
            name.attr if isinstance(name, ast.Attribute) else name.id
            for each in asked
            for name in ast.walk(each)
            if isinstance(name, ast.Attribute | ast.Name)
        }
        found += [f"line {node.lineno}: {name}" for name in sorted(names & NOUNS)]
    return found


def _is_a_type(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "type"


@BY_FILE
def test_views_and_server_do_not_ask_which_noun_something_is(file: File) -> None:
    assert type_tests(file) == []


@pytest.mark.parametrize(
    "text",
    [
        "isinstance(part, Attention)",
        "isinstance(part, s.Attention)",
        "isinstance(part, (MLP, s.GatedMLP))",
        "isinstance(part, MLP | str)",
        "issubclass(kind, MoE)",
        "match part:\n    case s.Window(size=size): pass",
        "match part:\n    case (Window() | Chunk()): pass",
        "x = type(part) is RoPE",
        "x = type(part) in (RoPE, s.YaRN)",
        "NAMES = {s.RoPE: 'RoPE'}",
    ],
)
def test_type_tests_are_found(text: str) -> None:
    assert type_tests(File("views/a.py", text))
    assert type_tests(File("server/a.py", text))
    assert not type_tests(File("views/nouns/a.py", text))


def test_other_questions_are_no_type_tests() -> None:
    text = "isinstance(x, Spec)\nisinstance(x, (int, str))\nx = type(a) is type(b)\nx = {'MoE': 1}\ny: s.MoE = f(MoE)"
    assert type_tests(File("views/a.py", text)) == []
    assert len(NOUNS) > 40


# ------------------------------------------------------------------ one word, one class

# A noun and its twin are one idea, as are the sequences and batches of the two executors.
SHARED_NAMES = {"Sequence", "Batch"}


def class_names(files: list[File]) -> dict[str, set[str]]:
    """The name of a public class -> the files that define one."""
    found: dict[str, set[str]] = {}
    for file in files:
        for node in file.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, set()).add(file.path)
    return found


def doubled(files: list[File]) -> list[str]:
    """Names that classes for different ideas have."""
    found = []
    for name, paths in class_names(files).items():
        twins = {path for path in paths if name in NOUNS and path.startswith(("spec/", "nn/", "exported/"))}
        if len(paths - twins) + bool(twins) > 1 and name not in SHARED_NAMES:
            found.append(f"{name}: {', '.join(sorted(paths))}")
    return found


def test_one_word_means_one_thing() -> None:
    assert doubled(FILES) == []


def test_a_second_meaning_is_found() -> None:
    one, other = File("cost/a.py", "class Piece: pass"), File("native/a.py", "class Piece: pass")
    assert doubled([one, other]) == ["Piece: cost/a.py, native/a.py"]
    twins = [File("spec/norm.py", "class RMSNorm: pass"), File("nn/norm.py", "class RMSNorm: pass")]
    assert doubled(twins) == []
    assert doubled([*twins, File("native/a.py", "class RMSNorm: pass")])
    assert doubled([one, File("native/b.py", "class _Piece: pass")]) == []


def test_the_library_reads_nothing_from_elsewhere() -> None:
    """The checkout is all there is: no path leads out of it."""
    for file in [*FILES, *(File(path.name, path.read_text("utf-8")) for path in (ROOT / "tests").glob("*.py"))]:
        assert not re.search(r"/work/|\.\./shared", file.text) or file.path == Path(__file__).name, file.path


# ------------------------------------------------------------------ public names


def undocumented(names: list[str], text: str) -> list[str]:
    return [name for name in names if not re.search(rf"\b(?:vt|vitruvius)\.{re.escape(name)}\b", text)]


def test_every_public_name_is_documented() -> None:
    text = "\n".join(path.read_text("utf-8") for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))])
    assert undocumented([name for name in vt.__all__ if not name.startswith("_")], text) == []


def test_what_is_not_documented_is_found() -> None:
    assert undocumented(["load", "save"], "`vt.load(folder)` and vt.saved") == ["save"]


@pytest.mark.parametrize("name", vt.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """And has the same doc that its module wrote: imported on first use, from where it is said to be."""
    thing = getattr(vt, name)
    assert name in dir(vt)
    assert isinstance(thing, str) or thing.__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        vt.nonsense  # noqa: B018
