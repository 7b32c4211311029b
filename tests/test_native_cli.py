"""`vitruvius generate` and `chat` with the native engine: what runs the model, and what is said when it cannot."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from test_generate_cli import folder, write_tokenizer  # noqa: F401, a fixture

import vitruvius as vt
from vitruvius.cli import main, running
from vitruvius.inference import generation
from vitruvius.native import library as native

BUILT = pytest.mark.skipif(native.library() is None, reason="the native library is not built")
WITHOUT_TORCH = "import sys; sys.modules.update(torch=None, transformers=None); from vitruvius.cli import main; main()"


def run(*args: str, stdin: str | None = None) -> Any:
    return CliRunner().invoke(main, list(args), input=stdin)


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    native.library.cache_clear()
    monkeypatch.setattr(native, "FOLDER", Path("nowhere"))
    yield
    native.library.cache_clear()


@BUILT
def test_generate_runs_natively_where_it_can(folder: Path) -> None:  # noqa: F811
    ours = run("generate", str(folder), "-p", "The capital", "--max-new-tokens", "20")
    theirs = run("generate", str(folder), "-p", "The capital", "--max-new-tokens", "20", "--engine", "torch")
    assert ours.exit_code == theirs.exit_code == 0
    assert ours.stdout == theirs.stdout != ""
    assert ours.stderr.count("\n") == 2  # its speed, and that there is a chat template


@BUILT
def test_generate_without_torch(folder: Path) -> None:  # noqa: F811
    command = ["generate", str(folder), "-p", "The capital", "--max-new-tokens", "9", "--json", "--weights", "f32"]
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *command], capture_output=True, text=True, check=True)
    text = "".join(generation.stream_text(vt.load(folder), vt.tokenizer(folder), "The capital", 9))
    assert json.loads(done.stdout)["text"] == text


@BUILT
def test_chat_remembers_natively(folder: Path) -> None:  # noqa: F811
    said = "hi\nand\n"
    ours = run("chat", str(folder), "--max-new-tokens", "5", stdin=said)
    theirs = run("chat", str(folder), "--max-new-tokens", "5", "--engine", "torch", stdin=said)
    assert ours.stdout == theirs.stdout
    remembered = re.findall(r"(\d+) of them remembered", ours.stderr)
    assert remembered == re.findall(r"(\d+) of them remembered", theirs.stderr) != []


@pytest.mark.usefixtures("no_library")
def test_without_the_library_one_line_says_so_and_torch_goes_on(folder: Path) -> None:  # noqa: F811
    result = run("generate", str(folder), "-p", "x", "--max-new-tokens", "3")
    assert result.exit_code == 0
    said = result.stderr.splitlines()
    assert len(said) == 3  # this line, the speed, and that --chat would answer
    assert "the native engine is not built: run `python -m vitruvius.native.build`" in said[0]
    assert said[0].endswith("PyTorch goes on")


@pytest.mark.usefixtures("no_library")
@pytest.mark.parametrize("options", [["--engine", "native"], ["--weights", "q4"]], ids=str)
def test_without_the_library_nothing_else_will_do(folder: Path, options: list[str]) -> None:  # noqa: F811
    result = run("generate", str(folder), "-p", "x", *options)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "the native engine is not built" in result.stderr


@BUILT
def test_what_has_no_native_form_goes_on_in_torch(tmp_path: Path) -> None:
    import test_switch

    config = next(iter(test_switch.CONFIGS.values()))
    model = vt.build(config)
    vt.save(model, tmp_path)
    write_tokenizer(tmp_path)
    auto = run("generate", str(tmp_path), "-p", "!", "--max-new-tokens", "3")
    assert auto.exit_code == 0, auto.stderr
    assert re.search(r"Encoder \(encoder\) has no native form yet; PyTorch goes on", auto.stderr)
    forced = run("generate", str(tmp_path), "-p", "!", "--engine", "native")
    assert (forced.exit_code, forced.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "torch", "--weights", "q8"], "--weights q8 is for the native engine"),
        (["--engine", "native", "--dtype", "bfloat16"], "--dtype bfloat16 is for PyTorch"),
        (["--weights", "q8", "--device", "cuda"], "--device cuda is for PyTorch"),
        (["--weights", "q3"], "q3"),
        (["--threads", "0"], "threads"),
    ],
    ids=str,
)
def test_options_that_contradict_each_other(folder: Path, options: list[str], message: str) -> None:  # noqa: F811
    result = run("generate", str(folder), "-p", "x", *options)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1), result.stderr
    assert message in result.stderr


def test_dtype_and_device_mean_torch() -> None:
    def native_wanted(**given: Any) -> bool:
        none = dict.fromkeys(("weights", "threads", "dtype", "device"))
        return running.How(**{"engine": "auto", "ignore": (), **none, **given}).native

    assert native_wanted()
    assert native_wanted(threads=2)
    assert not native_wanted(dtype="bfloat16")
    assert not native_wanted(device="cpu")
    assert not native_wanted(engine="torch")
