"""Building the native library: its errors, what it exports, and that the code for Arm computes the same."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import cases
import native_plans
import pytest

from vitruvius.errors import InputError
from vitruvius.native import build as builder
from vitruvius.native import library as native

ARM = "aarch64-linux-gnu-g++"


def test_no_compiler_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match=r"no C\+\+ compiler found \(looked for no-such-compiler\)"):
        builder.build(tmp_path / "lib.so")
    assert not (tmp_path / "lib.so").exists()


def test_the_compilers_first_error_is_told(tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\necho 'lanes.h:1: note: x' >&2\necho 'lanes.h:3: error: no such lane' >&2\nexit 1\n")
    compiler.chmod(0o755)
    with pytest.raises(InputError, match=r"failed: lanes\.h:3: error: no such lane$"):
        builder.build(tmp_path / "lib.so", cxx=str(compiler))
    assert [path.name for path in tmp_path.iterdir()] == ["c++"]


def test_the_library_is_built_where_there_is_a_compiler() -> None:
    """Tests that need it are skipped without it; where it could be built, that must not pass for tested."""
    try:
        builder.compiler()
    except InputError:
        pytest.skip("needs a C++ compiler")
    assert native.library() is not None, "missing, or an older one: python -m vitruvius.native.build"


def test_only_the_interface_is_exported() -> None:
    """Kernels with the same names for several instruction sets stay apart, and nothing else is seen."""
    found = native.library()
    if found is None or not shutil.which("nm"):
        pytest.skip("needs the library and nm")
    names = subprocess.run(
        ["nm", "-D", "--defined-only", found.path], capture_output=True, text=True, check=True
    ).stdout
    exported = {line.split()[-1] for line in names.splitlines() if " T " in line}
    header = (builder.SOURCES / "vitruvius.h").read_text()
    assert exported == {name for name in exported if name.startswith("vt_")}
    assert all(f"{name}(" in header for name in exported)


def test_no_shared_code_is_compiled_for_one_instruction_set(tmp_path: Path) -> None:
    """A function that a header gives to several sets must be inlined, or in the set's namespace: of weak copies the
    linker keeps one, which could be the one with AVX-512."""
    if not shutil.which("nm"):
        pytest.skip("needs nm")
    cxx = builder.compiler()
    for source in builder.sources("plain"):
        target = tmp_path / (source.stem + ".o")
        command = [cxx, *builder.FLAGS, "-O1", "-DVT_ISA=plain", "-c", str(source), "-o", str(target)]
        subprocess.run(command, check=True)
        symbols = subprocess.run(["nm", "-C", target], capture_output=True, text=True, check=True).stdout
        weak = [line[19:] for line in symbols.splitlines() if line[17:18] in ("W", "V", "u")]
        assert [name for name in weak if "vt::plain" not in name] == [], source.name


def program(name: str, library: Path, cxx: str) -> Path:
    """tests/NAME.cpp, compiled beside the library that it uses."""
    target, source = library.with_name(name), Path(__file__).with_name(f"{name}.cpp")
    command = [cxx, "-std=c++17", "-O1", source, library, "-o", target, f"-Wl,-rpath,{library.parent}"]
    subprocess.run(command, check=True)
    return target


def plans_of(names: Iterable[str], folder: Path) -> Path:
    """A file with the plans of these cases."""
    found = native.library()
    if found is None:
        pytest.skip("the native library is not built: python -m vitruvius.native.build")
    native_plans.write(path := folder / "plans", found, list(names))
    return path


def test_every_instruction_set_gives_what_the_references_give(tmp_path: Path) -> None:
    """Whole plans, with states in every dtype; and without Python, so that it can be done for other machines."""
    file = plans_of(list(cases.PLAIN)[::3], tmp_path)
    found = native.library()
    assert found is not None
    library = shutil.copy(found.path, tmp_path / "libvitruvius.so")
    command = [program("native_plans", library, builder.compiler()), file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(f": {' '.join(found.simd)}\n")


@pytest.mark.slow
def test_the_code_for_arm(tmp_path: Path) -> None:
    """NEON, with and without dot products, under qemu."""
    if not shutil.which(ARM) or not shutil.which("qemu-aarch64"):
        pytest.skip(f"needs {ARM} and qemu-aarch64 (Debian: g++-aarch64-linux-gnu, qemu-user)")
    library = builder.build(tmp_path / "libvitruvius.so", machine="aarch64", cxx=ARM)
    products, plans = (program(name, library, ARM) for name in ("native_aarch64", "native_plans"))
    file = plans_of(cases.PLAIN, tmp_path)
    for processor, sets in (("max", "dotprod neon plain naive"), ("cortex-a53", "neon plain naive")):
        for command in ([products], [plans, file]):
            qemu = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", "-cpu", processor]
            done = subprocess.run([*qemu, *command], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            assert done.stdout.endswith(f": {sets}\n")
