"""What verbs print fits the terminal; the catalog is sorted and searched."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import vitruvius as vt
from vitruvius.cli import main
from vitruvius.terminal import COLUMNS
from vitruvius.views.table import table

VERBS = (
    "show gemma-3n-e2b",
    "show glm-5.2",
    "cost gpt-oss-120b --device h100-sxm --fits",
    "compare gemma-3-27b mistral-small-3.1-24b",
    "compare qwen3-8b llama-3-8b gpt-oss-20b",
    "shard deepseek-v3 --devices 8x8",
    "catalog qwen",
)


def vitruvius(*args: str, columns: int | None = None) -> str:
    result = CliRunner(env={"COLUMNS": str(columns) if columns else None}).invoke(main, args)
    COLUMNS.set(None)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("columns", [60, 80, 100])
@pytest.mark.parametrize("call", VERBS)
def test_nothing_is_wider_than_the_terminal(call: str, columns: int) -> None:
    lines = vitruvius(*call.split(), columns=columns).splitlines()
    assert max(map(len, lines)) <= columns


def test_no_figure_is_lost_where_the_terminal_is_narrow() -> None:
    call = ("cost", "gpt-oss-120b", "--device", "h100-sxm")
    wide, narrow = (vitruvius(*call, columns=columns).split() for columns in (None, 60))
    assert set(wide) <= set(narrow)


def test_a_table_goes_on_below() -> None:
    rows = [["", "aaaa", "bbbb", "cccc"], ["first", "1", "2", "3"], ["second", "4", "5", "6"]]
    COLUMNS.set(20)
    try:
        narrow = table(rows, left=1)
    finally:
        COLUMNS.set(None)
    assert narrow.splitlines() == [
        "        aaaa  bbbb",
        "first      1     2",
        "second     4     5",
        "",
        "        cccc",
        "first      3",
        "second     6",
    ]
    assert len(table(rows, left=1).splitlines()) == 3


def names(*args: str) -> list[str]:
    return [entry["id"] for entry in json.loads(vitruvius("catalog", *args, "--json"))]


def test_the_catalog_is_searched_by_what_is_said_of_models() -> None:
    assert set(names("nope")) >= {"llama-4-scout", "smollm3-3b", "kimi-linear-48b-a3b"}
    assert not {"gpt2", "switch-base-8", "llama-3-8b"} & set(names("NoPE"))
    assert "deepseek-v3" in names("yarn")
    assert "gpt-oss-120b" in names("128 experts", "sinks")
    assert all(name.startswith(("gpt-oss", "mimo")) for name in names("sinks"))
    assert set(names("multi-query")) >= {"gemma-3-1b", "gemma-3-270m"}
    assert "gemma-3-4b" not in names("multi-query")
    released = {entry.id: entry.released for entry in vt.catalog()}
    assert all(str(released[name]).startswith("2025") for name in names("2025-"))


def test_the_catalog_is_sorted_and_bounded() -> None:
    total = {entry.id: vt.cost(entry.id).parameters.total for entry in vt.catalog() if "gemma" in entry.id}
    found = names("gemma", "--sort", "parameters", "--at-most", "12B", "--at-least", "300M")
    assert found == [name for name, count in sorted(total.items(), key=lambda pair: pair[1]) if 3e8 <= count <= 12e9]
    assert names("gemma", "--sort", "parameters", "--reverse") == names("gemma", "--sort", "parameters")[::-1]


def test_words_that_nothing_is_said_by_are_named() -> None:
    result = CliRunner().invoke(main, ["catalog", "zebra"])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "fewer words" in result.stderr


def test_drawings_of_several_models(tmp_path: Path) -> None:
    png, pdf, svg = (tmp_path / f"drawing.{kind}" for kind in ("png", "pdf", "svg"))
    vitruvius("show", "gpt2", "llama-3.2-1b", "gemma-3-1b", "--png", str(png), "--pdf", str(pdf))
    assert png.read_bytes().startswith(b"\x89PNG")
    assert pdf.read_bytes().startswith(b"%PDF")
    vitruvius("compare", "gpt2", "llama-3.2-1b", "gemma-3-1b", "--svg", str(svg))
    drawn = svg.read_text("utf-8")
    assert "GPT-2 124M, Llama 3.2 1B and Gemma 3 1B, their differences highlighted" in drawn
    assert sorted(file.name for file in tmp_path.iterdir()) == ["drawing.pdf", "drawing.png", "drawing.svg"]
    for args in (["show", *["gpt2"] * 7, "--svg", str(svg)], ["show", "gpt2", "--png", str(tmp_path / "a.jpg")]):
        result = CliRunner().invoke(main, args)
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1


def test_columns_are_measured_only_where_text_is_read() -> None:
    script = "from vitruvius.terminal import measure; print(measure())"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "None\n"
