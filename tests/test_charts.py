"""Charts: their data is the cost's, their names are text, and they draw."""

from __future__ import annotations

import builtins
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from vitruvius import catalog
from vitruvius.architectures import read
from vitruvius.cli import main
from vitruvius.cli.options import Count
from vitruvius.cli.plot import KINDS as OFFERED
from vitruvius.cost import cost
from vitruvius.errors import InputError
from vitruvius.spec import Decoder
from vitruvius.views.charts import INKS, MODELS, PARTS, charts
from vitruvius.views.plot import KINDS, Chart, plot

NEEDS_DEVICE = ("latency", "throughput", "training", "training-memory")
HOSTILE = '<script>alert("1")</script>&'


@cache
def arch(name: str) -> Decoder:
    entry = catalog.entry(name)
    return read(entry.config, entry.id, catalog.implicit)


def chart(kind: str, *names: str, **options: Any) -> Chart:
    asked = {"device": "h100-sxm"} if kind in NEEDS_DEVICE else {}
    return plot(kind, [arch(name) for name in names or ("gemma-3-1b", "qwen3-0.6b")], **asked, **options)


def rows(drawn: Chart, name: str = "rows") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = drawn.spec["datasets"][name]
    return found


# ------------------------------------------------------------------ data


def test_state_and_work_are_the_costs() -> None:
    for row in rows(chart("state", policies=("minimum", "vllm")))[::7]:
        assert row["bytes"] == cost(arch(row["model"]), row["context"]).state.policies[row["policy"]]
    for row in rows(chart("flops"))[::9]:
        assert row["flops"] == cost(arch(row["model"]), row["context"]).flops.decode_per_token
    longest = {row["model"]: row["context"] for row in rows(chart("state"))}
    assert longest == {name: arch(name).context for name in ("gemma-3-1b", "qwen3-0.6b")}


def test_times_are_the_costs() -> None:
    found = rows(chart("throughput", "qwen3-32b", context=8192, devices=2))
    for row in found[::4]:
        whole = cost(arch("qwen3-32b"), 8192, row["batch"], device="h100-sxm", devices=2)
        assert whole.time is not None
        assert (row["seconds"], row["tokens_per_second"]) == (whole.time.per_token, whole.time.tokens_per_second)
        assert row["fits"] == whole.memory.fits
    assert {row["fits"] for row in found} == {True, False}


def test_memory_adds_up_beside_the_limit() -> None:
    drawn = chart("memory", "qwen3-32b", batch=4, context=4096, device="h100-sxm")
    share = cost(arch("qwen3-32b"), 4096, 4, device="h100-sxm").memory.per_device
    assert sum(row["bytes"] for row in rows(drawn)) == share.needed_bytes
    assert rows(drawn, "limits")[0]["bytes"] == share.capacity_bytes
    assert rows(chart("memory", "qwen3-32b"), "limits") == []


def test_parameters_are_all_there() -> None:
    found = rows(chart("parameters", "deepseek-v3", "gemma-3n-e4b"))
    whole = cost(arch("deepseek-v3")).parameters
    for of, expected in (("all", whole.total), ("one token", whole.active)):
        assert sum(row["parameters"] for row in found if row["model"] == "deepseek-v3" and row["of"] == of) == expected
    assert {row["of"] for row in found if row["model"] == "gemma-3n-e4b"} == {"all"}
    assert {row["part"] for row in found} <= set(PARTS)


def test_training_shows_what_was_published() -> None:
    points = rows(chart("training", "deepseek-v3"), "points")
    assert [(point["what"], point["hours"]) for point in points][1] == ("published", 2_788_000)


def test_the_legend_names_what_is_there() -> None:
    color = chart("parameters", "gemma-3-1b").spec["layer"][0]["encoding"]["color"]["scale"]
    assert color == {
        "domain": ["attention", "feed-forward", "head", "other"],
        "range": [PARTS[part] for part in ("attention", "feed-forward", "head", "other")],
    }


# ------------------------------------------------------------------ drawing


@pytest.mark.parametrize("kind", KINDS)
def test_every_chart_is_drawn(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("vl_convert")
    drawn = chart(kind, ink="neutral")
    target = tmp_path / "chart.svg"
    drawn.save(target)
    text = "".join(ElementTree.parse(target).getroot().itertext())
    assert "gemma-3-1b" in text
    assert drawn.spec["title"]["text"] in text
    assert "undefined" not in text
    assert "NaN" not in target.read_text()


def test_a_png_has_so_many_pixels(tmp_path: Path) -> None:
    pytest.importorskip("vl_convert")
    small, large = (chart("state", "gpt2").png(scale) for scale in (1, 2))
    assert small[:8] == b"\x89PNG\r\n\x1a\n"
    width = [int.from_bytes(png[16:20], "big") for png in (small, large)]
    assert abs(width[1] - 2 * width[0]) <= 2
    chart("state", "gpt2").save(tmp_path / "a.PNG")
    assert (tmp_path / "a.PNG").read_bytes()[:4] == b"\x89PNG"


def test_a_models_name_is_text() -> None:
    pytest.importorskip("vl_convert")
    hostile = plot("parameters", [replace(arch("gpt2"), name=HOSTILE)]).svg()
    assert "<script" not in hostile
    assert HOSTILE in "".join(ElementTree.fromstring(hostile).itertext())


def test_a_notebook_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = chart("state", "gpt2")._repr_mimebundle_()
    assert bundle["application/vnd.vegalite.v5+json"]["datasets"]["rows"]
    _without_converter(monkeypatch)
    assert "image/svg+xml" not in chart("state", "gpt2")._repr_mimebundle_()


def test_without_the_converter_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _without_converter(monkeypatch)
    with pytest.raises(InputError, match=r"pip install 'vitruvius\[plot\]'"):
        chart("state", "gpt2").save(tmp_path / "a.svg")
    chart("state", "gpt2").save(tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())["datasets"]["rows"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def _without_converter(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "vl_convert":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)


@pytest.mark.parametrize("color", [*MODELS, INKS["neutral"]["ink"]])
def test_colours_are_seen_on_both_grounds(color: str) -> None:
    """WCAG 2.2, 1.4.11: at least 3 to 1 for what a chart is read by."""

    def luminance(code: str) -> float:
        channels = (int(code[i : i + 2], 16) / 255 for i in (1, 3, 5))
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    for ink in ("light", "dark"):
        pair = sorted((luminance(color), luminance(str(INKS[ink]["ground"]))))
        assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 3


# ------------------------------------------------------------------ descriptions and the command line


def test_descriptions_are_plain_and_named() -> None:
    found = charts()
    assert list(found) == list(KINDS) == list(OFFERED)
    assert json.loads(json.dumps(found)) == found
    text = json.dumps(found)
    assert '"url"' not in text  # no data from elsewhere


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["latency", "gpt2", "-o", "a.svg"], "a chart of time needs a device"),
        (["training", "gpt2", "-o", "a.svg"], "a chart of training needs a device"),
        (["state", "gpt2", "-o", "a.pdf"], "a chart is written as .svg, .png, .json"),
        (["state", "gpt2", "-o", "nowhere/a.svg"], "does not exist"),
        (["pie", "gpt2", "-o", "a.svg"], "'pie'"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_line(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["plot", *arguments])
    assert result.exit_code == 2
    assert message in result.output
    assert len(result.output.splitlines()) == 1


def test_the_command_writes_a_chart(tmp_path: Path) -> None:
    target = tmp_path / "state.json"
    result = CliRunner().invoke(
        main, ["plot", "state", "gpt2", "gemma-3-1b", "-o", str(target), "--policy", "llama.cpp"]
    )
    assert result.exit_code == 0, result.output
    assert {row["policy"] for row in json.loads(target.read_text())["datasets"]["rows"]} == {"llama.cpp"}


@pytest.mark.parametrize(
    ("text", "value"),
    [("15T", 15 * 10**12), ("14.8T", 148 * 10**11), ("1.5e12", 15 * 10**11), ("300b", 3 * 10**11), ("1,000", 1000)],
)
def test_counts(text: str, value: int) -> None:
    assert Count().convert(text, None, None) == value
