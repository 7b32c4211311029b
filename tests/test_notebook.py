"""Specs, costs, differences and drawings show themselves, in print and in the cells of a notebook."""

from __future__ import annotations

import pytest

import vitruvius as vt
from vitruvius.views import tree
from vitruvius.views.table import cost_table

ARCH = vt.architecture("gpt-oss-20b")


def test_short_in_a_list_and_long_in_print() -> None:
    cost, difference = vt.cost(ARCH), vt.compare(ARCH, "llama-3.2-1b")
    assert repr(ARCH) == "<Decoder gpt-oss-20b: gpt_oss, 24 layers of width 2,880; print it, or see spec.to_json>"
    held = "12.8 GiB of weights, 3.00 GiB of state at 1 × 131,072 tokens"
    assert repr(cost) == f"<Cost of gpt-oss-20b: 20.9 B parameters, {held}>"
    assert repr(difference).startswith("<Difference of gpt-oss-20b and llama-3.2-1b: ")
    assert repr(vt.compare(ARCH, ARCH)) == "<Difference of gpt-oss-20b and gpt-oss-20b: the same>"
    assert (str(ARCH), str(cost)) == (tree(ARCH), cost_table(cost))
    assert "on NVIDIA H100 SXM 80 GB" in str(vt.cost(ARCH, device="h100-sxm"))


def test_names_and_lengths_as_on_the_command_line() -> None:
    by_name = vt.compare("gpt-oss-20b", "llama-3.2-1b", context="64k")
    assert by_name.to_dict() == vt.compare(ARCH, vt.architecture("llama-3.2-1b"), context=65_536).to_dict()
    assert [c.memory.weights_bytes for c in by_name.costs] == [
        vt.cost(name).memory.weights_bytes for name in ("gpt-oss-20b", "llama-3.2-1b")
    ]
    assert vt.draw("gpt2").svg == vt.draw(vt.architecture("gpt2")).svg
    with pytest.raises(vt.InputError, match="no model named"):
        vt.draw("gpt-oss-21b")


def test_a_notebook_shows_them() -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    cells = [
        "import vitruvius as vt\nvt.architecture('gpt-oss-20b')",
        "vt.cost('gpt-oss-20b', context='64k', device='h100-sxm')",
        "vt.compare('gpt-oss-20b', 'llama-3.2-1b')",
        "vt.draw('gpt2')",
    ]
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))
    done = nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    shown = [cell.outputs[0].data for cell in done.cells]
    assert "Mixture of experts" in shown[0]["text/html"]
    assert "<svg" in shown[0]["text/html"]
    assert "20,914,757,184" in shown[1]["text/html"]
    assert "on NVIDIA H100 SXM 80 GB" in shown[1]["text/html"]
    assert "attention sees" in shown[2]["text/html"]
    assert shown[2]["text/html"].count("</table>") == 2
    assert shown[3]["image/svg+xml"].startswith("<svg")
    assert all(len(data["text/plain"]) < 130 for data in shown)
