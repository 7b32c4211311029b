"""`vitruvius docs`: the guide and the reference, offline."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from vitruvius.cli import main

DOCS = Path(__file__).parent.parent / "docs"


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["docs", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_every_page_is_listed_and_printed_as_it_is() -> None:
    pages = sorted(page.stem for page in DOCS.glob("*.md"))
    listed = json.loads(run("--json")[1])
    assert sorted(listed["pages"]) == pages
    assert all(listed["pages"].values()), "each page has a heading"
    assert run("editing")[1] == (DOCS / "editing.md").read_text("utf-8").rstrip("\n") + "\n"
    assert run("docs/editing.md") == run("editing")
    assert all(name in run()[1] for name in (*pages, "vt.load"))


def test_the_reference_is_the_public_functions() -> None:
    code, text, _ = run("vt.load")
    assert code == 0
    assert "def" not in text.splitlines()[0]
    assert "source: str | os.PathLike[str]" in text
    assert "A model with the weights of a checkpoint." in text
    assert run("load") == (code, text, "")


@pytest.mark.parametrize("topic", ["editting", "nothing-like-it"])
def test_an_unknown_page_is_one_line(topic: str) -> None:
    code, out, err = run(topic)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert ("nearest: editing" in err) == (topic == "editting")


class Links(HTMLParser):
    """What a page links to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remembers the target of a link."""
        self.found += [value for key, value in attrs if tag == "a" and key == "href" and value]


def test_the_pages_become_html_that_links_to_itself(tmp_path: Path) -> None:
    assert run("-o", str(tmp_path / "site"))[0] == 0
    written = {page.name: page.read_text("utf-8") for page in (tmp_path / "site").iterdir()}
    links = Links()
    links.feed(written["index.html"])
    assert sorted(links.found) == sorted(written.keys() - {"index.html"})
    assert "<table>" in written["cost.html"]
    assert 'href="editing.html"' in "".join(written.values())
    for text in written.values():
        inside = Links()
        inside.feed(text)
        assert {link.partition("#")[0] for link in inside.found if "://" not in link} <= {*written, ""}
        assert "<img" not in text
    (tmp_path / "file").write_text("")
    code, _, err = run("-o", str(tmp_path / "file" / "site"))
    assert (code, len(err.splitlines())) == (2, 1)
