"""Keys of a config that nothing reads: what says nothing passes, figures name the rest, and running refuses it."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import cases
import pytest

import vitruvius as vt
from vitruvius.errors import InputWarning

LLAMA = cases.TEXT["llama"]


@pytest.mark.parametrize("value", [None, False, 0, 0.0, "", [], {}])
def test_a_key_that_says_nothing_passes(value: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert vt.architecture({**LLAMA, "shiny": value}) == vt.architecture(LLAMA)


def saved(folder: Path, **keys: Any) -> Path:
    vt.save(vt.build(LLAMA), folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | keys), "utf-8")
    return folder


def test_figures_name_a_key_that_is_left_out_and_running_refuses_it(tmp_path: Path) -> None:
    folder = saved(tmp_path, shiny=2, other="x")
    with pytest.warns(InputWarning, match="unknown keys other, shiny .*which these figures leave out"):
        assert vt.architecture(folder) == vt.architecture(LLAMA)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert vt.architecture(folder, ignore=["shiny", "other"]) == vt.architecture(LLAMA)
    for run in (vt.load, vt.engine):
        with pytest.raises(vt.InputError, match="run it all the same with --ignore-key other --ignore-key shiny"):
            run(folder)
    assert vt.load(folder, ignore=["shiny", "other"]).spec == vt.architecture(LLAMA)


@pytest.mark.parametrize("verb", [["cost"], ["show"], ["shard", "--devices", "1x2"]])
def test_every_verb_says_it_once_and_takes_the_option(verb: list[str], tmp_path: Path) -> None:
    folder = str(saved(tmp_path, shiny=2))
    said, silent = run(*verb, folder), run(*verb, folder, "--ignore-key", "shiny")
    assert said.stderr.count("unknown key shiny") == 1
    assert (silent.stderr, silent.stdout) == ("", said.stdout)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from vitruvius.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
