"""Known models: the config.json of each with its sources, and the figures published and recorded for it.

`models/<id>.json` holds one model, its config in Hugging Face's keys with the defaults written out that the
checkpoint's own file leaves implicit. A model that is like another but for some sizes says so (`like`) and holds only
what differs. `implicit/<model_type>.json` holds those defaults by model type, for config files from elsewhere.
"""

from __future__ import annotations

import copy
import difflib
import json
import re
import sys
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from vitruvius import CallablePackage
from vitruvius.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Published(TypedDict):
    """Parameters as the vendor states them: rounded, and not always counting the same things."""

    total: str
    active: str | None  # None: dense
    note: str | None
    source: str


class Exact(TypedDict):
    """Reference counts recorded from transformers 5.23.0 on the meta device, against which ours are tested.

    Parameters of the text model, a tied matrix once, no MTP. `active` is what one token uses, by the three conventions
    vendors choose from; None for a dense model. State is counted in elements for one sequence.
    """

    total: int  # without `router_bias`
    router_bias: int  # selection biases of the routers: weights in the checkpoint, buffers in transformers
    scope: str
    tested: bool  # False where an unconfirmed config value decides the total
    active: int | None
    active_without_input_embedding: int | None
    active_without_embeddings: int | None
    with_vision: int | None
    state_elements_per_token: int  # over all layers, while no window is full
    state_elements_at_131072: int | None  # recorded where some layers have a window
    state_full_layers: int
    state_window_layers: int
    state_window: int | None


class Weights(TypedDict):
    """A Python distribution whose files include the weights, by the path `importlib.metadata.files` gives them."""

    distribution: str
    file: str
    install: str


class Release(TypedDict):
    """How the weights were released, where they are packed: the `quantization_config` of the repository's file."""

    quantization: dict[str, Any]
    source: str


class Derivation(TypedDict):
    """From which known model another comes, as `source` says: trained on from its weights, or its design taken over."""

    parent: str
    takes: Literal["weights", "design"]
    source: str


@dataclass(frozen=True, eq=False)
class Entry:
    """One known model. `released` is a year and month; `predecessor` the id of the model it is best compared with,
    whether it `derives` from it or not; `like` the id of the model of whose layers it has other sizes, or the same;
    `repository` where its weights are, None if they were never released; `also` other repositories with the same
    config. What is not known is None; what is known has its source beside it."""

    id: str
    like: str | None
    name: str
    family: str
    repository: str | None
    also: tuple[str, ...]
    released: str | None
    released_source: str | None
    license: str | None
    license_source: str | None
    predecessor: str | None
    derives: Derivation | None
    sources: tuple[str, ...]
    published: Published
    exact: Exact
    unconfirmed: tuple[str, ...]
    unconfirmed_keys: tuple[str, ...]  # of the config, nested ones as "rope_scaling.mscale"
    weights: Weights | None
    stored: Release | None
    _config: Mapping[str, Any] = field(repr=False)

    @property
    def config(self) -> dict[str, Any]:
        """The config.json, as a copy that the caller may change."""
        return copy.deepcopy(dict(self._config))


# What a file may leave out.
_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(("like", "released", "released_source", "license", "license_source", "derives", "weights")),
    **dict.fromkeys(("stored", "config")),
    **dict.fromkeys(("also", "unconfirmed", "unconfirmed_keys"), ()),
}
_PUBLISHED = {"total": None, "active": None, "note": None, "source": None}
_EXACT: dict[str, Any] = {
    **dict.fromkeys(Exact.__annotations__),
    "router_bias": 0,
    "scope": "text model (causal LM), no MTP, no vision",
    "tested": True,
    "state_window_layers": 0,
}


def _entry(name: str, records: Mapping[str, dict[str, Any]]) -> Entry:
    """The entry of a file, and what it leaves out: from the model that it is like, or none."""
    record = {**_DEFAULTS, **records[name]}
    own, like = record.pop("config") or {}, record["like"]
    origin = _entry(like, records) if like else None
    config = _merged(origin.config, own) if origin else own
    record["exact"] = {**_EXACT, **record["exact"]} if "exact" in record or not origin else origin.exact
    record["published"] = _PUBLISHED | record["published"]
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in record.items()}
    return Entry(_config=config, **values)


def _merged(origin: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    text = {key: origin[key] | own[key] for key in ("text_config",) if key in origin and key in own}
    return {**origin, **own, **text}


@cache
def entries() -> tuple[Entry, ...]:
    """Every known model: families by name, within a family by release, then by size."""
    files = resources.files(__name__).joinpath("models").iterdir()
    records = {file.name.removesuffix(".json"): json.loads(file.read_text("utf-8")) for file in files}
    models = [_entry(name, records) for name in records]
    return tuple(sorted(models, key=lambda e: (e.family.casefold(), e.released or "~", e.exact["total"], e.id)))


def names() -> tuple[str, ...]:
    """The ids of all known models, in the order of `entries`."""
    return tuple(e.id for e in entries())


def entry(name: str) -> Entry:
    """The model with this id or repository, with or without its organisation, in any case, or the only one whose id
    begins so. Raises InputError, which suggests the nearest ids."""
    wanted = name.casefold()
    called = [e for e in entries() if e.id == wanted] or [e for e in entries() if wanted in _repository(e)]
    if called:
        return called[0]
    begun = [e for e in entries() if wanted and e.id.startswith(f"{wanted}-")]
    if len(begun) == 1:
        return begun[0]
    near = [e.id for e in begun] or difflib.get_close_matches(wanted, names())
    suggestion = f"; did you mean {', '.join(near)}?" if near else ";"
    raise InputError(f"no model named {name!r} in the catalog{suggestion} `vitruvius catalog` lists all")


def _repository(known: Entry) -> tuple[str, ...]:
    """The repositories of a model, with and without their organisations, in lower case."""
    whole = [name.casefold() for name in (known.repository, *known.also) if name]
    return (*whole, *(name.rpartition("/")[2] for name in whole))


def alike(name: str) -> Entry | None:
    """The model of whose architecture this repository is, by its name: a known one, or its instruct or base sister."""
    wanted = _plain(name)
    exact = (e for e in entries() if name.casefold() in _repository(e))
    sisters = (e for e in entries() if wanted in map(_plain, _repository(e)))
    return next(exact, None) or next(sisters, None)


def _plain(repository: str) -> str:
    """A repository's name without what tells a model for answers from its base."""
    return re.sub(r"-(instruct|it|base|chat|pt)(?=-|$)", "", repository.casefold())


@cache
def _defaults(model_type: str) -> dict[str, Any]:
    for file in resources.files(__name__).joinpath("implicit").iterdir():
        if file.name == f"{model_type}.json":
            return dict(json.loads(file.read_text("utf-8"))["defaults"])
    return {}


def implicit(model_type: str) -> dict[str, Any]:
    """What a config.json of this model type means where it is silent, empty for an unknown type.

    As transformers' configuration class fills it in, where official files leave a key out or its absence can only mean
    that something is off. `rope_theta` and `rope_scaling` are the old spelling: they do not apply beside
    `rope_parameters`.
    """
    return copy.deepcopy(_defaults(model_type))


sys.modules[__name__].__class__ = CallablePackage
