"""The generated pages are what the code says today, and the claims' recorded values are what it computes."""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from importlib import resources
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from vitruvius import architecture, catalog
from vitruvius.views import claims as views

DOCS = Path(__file__).parent.parent / "docs"
CLAIMS = views.claims()
known = cache(architecture)


def _generator() -> ModuleType:
    """docs/generate.py, which is a script and no part of the package."""
    spec = spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


generator = _generator()


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything, written anew."""
    folder = tmp_path_factory.mktemp("docs")
    assert generator.generate(folder) == [], "a model of the catalog cannot be read"
    return folder


# ------------------------------------------------------------------ pages


def test_the_pages_are_what_the_generator_writes(fresh: Path) -> None:
    """Drawings too: byte for byte, and no page that nothing writes any more."""
    written = {path.name: path.read_bytes() for path in (fresh / "gallery").iterdir()}
    kept = {path.name: path.read_bytes() for path in (DOCS / "gallery").iterdir()}
    assert sorted(kept) == sorted(written), "run python docs/generate.py"
    changed = [name for name in written if written[name] != kept[name]]
    assert not changed, f"run python docs/generate.py and read the difference: {', '.join(changed)}"


@pytest.mark.parametrize("page", ["claims.md", "serving.md"])
def test_other_pages_are_what_the_generator_writes(fresh: Path, page: str) -> None:
    kept, written = ((folder / page).read_text("utf-8") for folder in (DOCS, fresh))
    assert kept == written, "run python docs/generate.py and read the difference"


def test_the_folder_is_small() -> None:
    assert sum(path.stat().st_size for path in (DOCS / "gallery").iterdir()) < 4_000_000


def test_every_family_has_a_page_that_names_all_its_models() -> None:
    index = (DOCS / "gallery" / "README.md").read_text("utf-8")
    for entry in catalog.entries():
        name = f"{generator.slug(entry.family)}.md"
        page = (DOCS / "gallery" / name).read_text("utf-8")
        assert f"]({name})" in index
        assert f"| {generator.escaped(entry.name)}" in index
        assert f"| `{entry.id}` |" in page
        assert all(generator.escaped(source) in page for source in entry.sources)


def test_every_link_leads_somewhere() -> None:
    for page in [*(DOCS / "gallery").glob("*.md"), DOCS / "claims.md"]:
        text = page.read_text("utf-8")
        for target in re.findall(r"\]\(([^)]+)\)", text):
            if target.startswith("#"):
                assert f"## {target[1:].replace('-', ' ')}" in text.casefold()
            elif not target.startswith("https://"):
                assert (page.parent / target).exists(), f"{page.name} links {target}"


@pytest.mark.parametrize(
    ("published", "figures", "shown"),
    [
        ("671B", [671_026_419_200], "671B"),
        ("355B", [352_797_829_024], "355B\u00a0†"),
        ("46.7B", [46_702_792_704], "46.7B"),
        ("46.8B", [46_702_792_704], "46.8B\u00a0†"),
        ("37B", [37_552_297_472, 36_625_618_432, 35_698_939_392], "37B"),
    ],
)
def test_a_figure_that_the_definition_does_not_give_is_marked(published: str, figures: list[int], shown: str) -> None:
    assert generator.marked(published, figures) == shown


def test_marks_stand_on_the_pages() -> None:
    rows = (DOCS / "gallery" / "glm-4.5.md").read_text("utf-8").replace("\u00a0", " ").splitlines()
    row = next(row for row in rows if row.startswith("| GLM-4.5 (355B-A32B) ‡ | 92 × 5,120 |"))
    assert "| 352,797,829,024<br>published: 355B † | 33,632,266,144<br>published: 32B |" in row


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("gpt2", "MHA"),
        ("gemma-3-27b", "GQA 32/16: 52 × window 1,024, 10 × full"),
        ("mistral-7b-v0.1", "GQA 32/8, window 4,096"),
        ("mimo-v2-flash", "9 × GQA 64/4; 39 × GQA 64/8, window 128"),
        ("deepseek-v3.2", "MLA, the best 2,048 keys"),
        ("switch-base-8", "MHA"),
    ],
)
def test_attention_in_few_words(model: str, words: str) -> None:
    assert generator.attention(known(model)) == words


def test_nothing_is_taken_for_markdown() -> None:
    assert generator.escaped("a_b | <model>\n$2 * [x]") == r"a\_b \| \<model> \$2 \* \[x\]"


# ------------------------------------------------------------------ claims


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if claim.checks], ids=lambda claim: claim.id)
def test_the_recorded_values_are_what_the_code_computes(claim: views.Claim) -> None:
    computed = {check.what: check.computed(known) for check in claim.checks}
    assert computed == {check.what: check.recorded for check in claim.checks}


def test_claims_are_many_and_most_are_computed_from_models() -> None:
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS) > 90
    from_models = [claim for claim in CLAIMS if any(views.models(check.value) for check in claim.checks)]
    assert len(from_models) >= 60


def test_claims_are_whole() -> None:
    for claim in CLAIMS:
        assert all((claim.topic, claim.claim, claim.right, claim.sources, *claim.sources)), claim.id
        assert len({check.what for check in claim.checks}) == len(claim.checks), claim.id
        assert all(check.what for check in claim.checks), claim.id


def test_no_page_points_to_somebodys_own_files() -> None:
    texts = [path.read_text("utf-8") for path in [*(DOCS / "gallery").iterdir(), DOCS / "claims.md"]]
    texts.append(resources.files(catalog).joinpath("claims.json").read_text("utf-8"))
    for text in texts:
        assert not re.search(r"(^|[\s(\"`])([.~]{1,2})?/(work|home|tmp|opt|shared|Users)/", text)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (7, 7),
        ({"model": "gpt2", "read": "width"}, 768),
        ({"model": "gpt2", "read": "layers.*.mlp.body"}, "MLP"),
        ({"model": "gpt2", "read": "layers.0.mixer"}, "x + attention(LayerNorm(x))"),
        ({"model": "gpt2", "count": "layers.*", "is": "Layer"}, 12),
        ({"model": "gpt2", "count": "layers.*.mixer.body.positions", "is": "none"}, 12),
        ({"model": "gpt2", "cost": "parameters.total"}, 124_439_808),
        ({"model": "gpt2", "cost": "parameters.by_part.positions"}, 1024 * 768),
        ({"model": "gpt2", "cost": "state.bytes", "context": 10, "dtype": "fp8"}, 10 * 12 * 2 * 768),
        ({"sum": [1, {"product": [2, 3, 4]}]}, 25),
        ({"difference": [1, {"ratio": [1, 4]}]}, 0.75),
        ({"percent": [1, 8]}, 12.5),
    ],
    ids=json.dumps,
)
def test_expressions(expression: Any, value: float | str) -> None:
    assert views.evaluate(expression, known) == value


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("1 + 1", "no such expression"),
        ({"power": [2, 3]}, "no such expression"),
        ({"sum": [1], "product": [2]}, "no such expression"),
        ({"model": "gpt2", "read": "width", "context": 3}, "no such expression"),
        ({"model": "gpt2", "read": "height"}, "has no 'height'"),
        ({"model": "gemma-3-27b", "read": "layers.*.mixer.body.mask"}, "several values"),
        ({"model": "gpt2", "cost": "parameters"}, "no figure"),
    ],
    ids=json.dumps,
)
def test_expressions_that_mean_nothing_are_refused(expression: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        views.evaluate(expression, known)


def test_a_fraction_is_compared_as_precisely_as_it_is_recorded() -> None:
    check = views.Check("", {"ratio": [2, 3]}, 0.67, "times")
    assert check.computed(known) == 0.67
    assert check.shown(known) == "0.67 times"
    assert views.Check("", {"ratio": [2, 3]}, 1).computed(known) == pytest.approx(2 / 3)  # it is not 1
    assert views.Check("", {"percent": [1, 4]}, 25, "%").shown(known) == "25%"
