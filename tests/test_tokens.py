"""What the formatting of a text costs: with a tokenizer whose tokens are bytes, so that each figure is a length."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from test_tokenizer import folder, small_backend

from vitruvius.checkpoints.tokenizer import from_folder
from vitruvius.checkpoints.tokenizer.formatting import counted, steps
from vitruvius.cli import main

MARKDOWN = """# Head

Some *bold*  `code` and a [link](http://example.org/).

- one
  - two

| a | b |
|---|---|
| 1 | 2 |

```python
if x:
    y
```

> quoted ~~gone~~
"""
TIDY = """# Head
Some *bold* `code` and a [link](http://example.org/).
- one
- two
| a | b |
|---|---|
| 1 | 2 |
```python
if x:
y
```
> quoted ~~gone~~"""
WORDS = "Head\nSome bold code and a link.\none\ntwo\na b\n1 2\nif x:\ny\nquoted gone"
OBJECT = '{"a: b": [1, 2.5, true],\n  "c": {"d": "x \\" y, z"},\n  "e": null}'
COMPACT = '{"a: b":[1,2.5,true],"c":{"d":"x \\" y, z"},"e":null}'
VALUES = 'a: b 1 2.5 true c d x \\" y, z e null'
LINES = '{"a": 1}\n\n{"b": [2]}\n'


@pytest.mark.parametrize(
    ("text", "name", "left"),
    [
        (MARKDOWN, "white space", TIDY),
        (MARKDOWN, "Markdown", WORDS),
        (OBJECT, "white space", COMPACT),
        (OBJECT, "punctuation", VALUES),
        (LINES, "white space", '{"a":1}{"b":[2]}'),
        (LINES, "punctuation", "a 1 b 2"),
        ("# 1\n{", "Markdown", "1\n{"),
        ("12\n", "Markdown", "12"),  # a number is no formatted JSON
    ],
)
def test_what_is_taken_away(text: str, name: str, left: str) -> None:
    assert steps(text)[name](text) == left


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return folder(tmp_path / "bytes", small_backend(), config_json={"model_type": "llama"})


@pytest.mark.parametrize(
    ("text", "tidy", "words", "second"),
    [(MARKDOWN, TIDY, WORDS, "Markdown"), (OBJECT, COMPACT, VALUES, "punctuation")],
)
def test_each_figure_is_the_length_that_goes(source: Path, text: str, tidy: str, words: str, second: str) -> None:
    found = counted(text, from_folder(source))
    assert found.tokens == len(text)
    assert dict(found.formatting) == {"white space": len(text) - len(tidy), second: len(tidy) - len(words)}


def run(*args: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["tokens", *args], input=stdin)


def test_the_verb(tmp_path: Path, source: Path) -> None:
    file = tmp_path / "a.md"
    file.write_text(MARKDOWN)
    result = run(str(file), "--model", str(source), "--json")
    (record,) = json.loads(result.stdout)["tokenizers"]
    size, tidy, words = len(MARKDOWN), len(TIDY), len(WORDS)
    formatting = {"white_space": size - tidy, "markdown": tidy - words}
    assert record == {"model": str(source), "tokens": size, "characters_per_token": 1.0, "formatting": formatting}
    text = run(str(file), "--model", str(source)).stdout
    assert text.startswith(f"{file}: {size} characters\n\n")
    assert f"{size - tidy} ({(size - tidy) / size:.1%})" in text
    assert text.split()[-1] == str(words)
    assert run("-", "--model", str(source), stdin=OBJECT.encode()).stdout.split()[-1] == str(len(VALUES))


def test_all_models_at_hand_are_asked(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("The capital of France is")
    found = json.loads(run(str(file), "--json").stdout)["tokenizers"]
    tokens = {record["model"]: record["tokens"] for record in found}
    assert tokens["smollm2-135m-instruct"] == 5


def test_texts_that_cannot_be_counted(tmp_path: Path, source: Path) -> None:
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    (tmp_path / "empty").write_text(" \n")
    for name, problem in (
        ("latin", "not a text in UTF-8 (byte 0xe9 at 3): convert it"),
        ("empty", "there is no text in it"),
        ("gone", "cannot be read (No such file or directory)"),
    ):
        result = run(str(tmp_path / name), "--model", str(source))
        assert result.exit_code == 2
        assert problem in result.stderr
        assert result.stdout == ""
    (tmp_path / "a").write_text("a")
    result = run(str(tmp_path / "a"), "--model", str(tmp_path / "nothing"))
    assert (result.exit_code, "no such file or folder" in result.stderr) == (2, True)
