"""One file for each family: a function from config.json to a spec, and the names that its checkpoints spell their own
way. What several families have in common is in `shared`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from importlib import import_module, metadata
from pkgutil import iter_modules
from typing import Any

from .. import spec
from ..spec import Classifier, Config, Decoder, Family, from_json

# What a multimodal wrapper says beside its text model. Vision is a published figure here, never a part of the spec.
PARTS = frozenset(("text_config", "model_type", "spatial_merge_size", "ignore_index"))
WRAPPER = PARTS | {"tie_word_embeddings", "vocab_size", "hidden_size"}
OTHER_PARTS = re.compile(r"(.*_)?(vision|visual|image|video|audio|speech|media|multimodal|projector|mm)(_|$)")


@cache
def family(model_type: str) -> Family | None:
    """The family that reads this model_type: one of the files here, or of what installed packages add under
    "vitruvius.architectures". A file that is called like the model_type is looked at first, so that few are
    imported."""
    for name in sorted(_files(), key=lambda name: len(name) if model_type.startswith(name) else 0, reverse=True):
        found: Family = import_module(f"{__name__}.{name}").FAMILY
        if model_type in found.model_types:
            return found
    return next((added for added in _added() if model_type in added.model_types), None)


def _files() -> list[str]:
    return [module.name for module in iter_modules(__path__) if not module.ispkg]


def _added() -> list[Family]:
    return [entry.load() for entry in metadata.entry_points(group="vitruvius.architectures")]


@cache
def families() -> dict[str, Family]:
    """model_type -> family, of every family there is."""
    found = [import_module(f"{__name__}.{name}").FAMILY for name in _files()]
    return {model_type: family for family in (*found, *_added()) for model_type in family.model_types}


# What a text model would do and its multimodal wrapper does not (transformers, Gemma3ForConditionalGeneration; in all
# published files the value is null).
NOT_IN_WRAPPER = {"gemma3": {"final_logit_softcapping": None}}

Implicit = Callable[[str], Mapping[str, Any]]


class UnreadKeysError(ValueError):
    """A config holds `keys` that nothing reads."""

    def __init__(self, message: str, keys: list[str]) -> None:
        super().__init__(message)
        self.keys = keys


# Wrappers whose older files hold the text model's keys beside their own, without a text_config.
FLAT = {"qwen2_vl": "qwen2_vl_text", "qwen2_5_vl": "qwen2_5_vl_text"}


def text_config(config: Mapping[str, Any], implicit: Implicit, ignore: Collection[str] = ()) -> dict[str, Any]:
    """The text model's own config.json: that of a multimodal wrapper, whose `tie_word_embeddings` decides, or
    itself."""
    text = config.get("text_config")
    if text is None and (kind := FLAT.get(str(config.get("model_type")))):
        own = {key: value for key, value in config.items() if not (key in PARTS or OTHER_PARTS.match(key))}
        return {"model_type": kind, **own}
    if text is None:
        return dict(config)
    if not isinstance(text, Mapping):
        raise ValueError("text_config must be an object")
    if unread := sorted(key for key in spec.said(config) - WRAPPER - set(ignore) if not OTHER_PARTS.match(key)):
        raise UnreadKeysError(f"the wrapper holds {', '.join(unread)}, which would be ignored", unread)
    text = {**text, **NOT_IN_WRAPPER.get(str(config.get("model_type")), {})}
    for values in (config, text, implicit(str(config.get("model_type")))):
        if "tie_word_embeddings" in values:
            return {**text, "tie_word_embeddings": values["tie_word_embeddings"]}
    return dict(text)


def read(
    config: Mapping[str, Any], name: str, implicit: Implicit = lambda model_type: {}, ignore: Collection[str] = ()
) -> Decoder:
    """The architecture that a config.json describes.

    Args:
        config: its contents.
        name: what to call the result.
        implicit: model_type -> defaults for keys that such a file may leave out.
        ignore: keys that may go unread, besides those that the family knows of.

    Raises ValueError, in one line, for a family that is not known, a key that is missing, contradictory or would be
    ignored.
    """
    if "tree" in config:
        tree = from_json(config["tree"])
        if not isinstance(tree, Decoder):
            raise ValueError("tree must be a Decoder")
        return replace(tree, name=name)
    text = text_config(config, implicit, ignore)
    kind = text.get("model_type")
    if not isinstance(kind, str):
        raise ValueError("model_type is missing: the architecture cannot be known without it")
    known = family(kind)
    if known is None:
        near = get_close_matches(kind, families(), 3, 0.5)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise ValueError(f"model_type {kind!r} is not a known architecture{hint}")
    its_class, c = class_of(config, ignore), Config(text, implicit(kind))
    decoder = known.spec(c)
    c.ignore("model_type", *known.ignored, *ignore)
    if unread := c.unread():
        plural = "keys" if len(unread) > 1 else "key"
        raise UnreadKeysError(f"unknown {plural} {', '.join(unread)} (model_type {kind})", unread)
    return with_head(replace(decoder, name=name), its_class, config)


DRAFTS = ("eagle", "medusa")
CLASSIFIERS = ("ForSequenceClassification", "ForTokenClassification")
OTHER_HEADS = ("ForQuestionAnswering", "ForMultipleChoice", "DoubleHeadsModel", "RewardModel")
TWO = 2  # labels, where nothing is said (transformers, PreTrainedConfig)


def class_of(config: Mapping[str, Any], ignore: Collection[str] = ()) -> str:
    """The class that `architectures` names, "" where it names none. Heads that are not known here are refused."""
    names = None if "architectures" in ignore else config.get("architectures")
    name = str(names[0]) if isinstance(names, list) and names else ""
    if any(draft in name.lower() for draft in DRAFTS):
        raise ValueError(
            f"architectures is {name}: a head that drafts for another model, not a model of its own; "
            "give the config.json of the model that it drafts for"
        )
    if name.endswith(OTHER_HEADS):
        raise ValueError(f"architectures is {name}: a head that is not known here")
    return name


def with_head(decoder: Decoder, name: str, config: Mapping[str, Any]) -> Decoder:
    """The decoder with the head of the class `name`: a score for each label in a classifier, of which that of tokens
    has a bias; none in a class without one."""
    classifies = name.endswith(CLASSIFIERS)
    if not classifies and (not name.endswith("Model") or name.endswith("HeadModel")):
        return decoder
    head = None
    if classifies:
        labels, count = config.get("id2label"), config.get("num_labels")
        if isinstance(labels, Mapping) and labels:
            count = len(labels)
        head = Classifier(labels=count or TWO, bias=name.endswith("ForTokenClassification"))
    return replace(decoder, embedding=replace(decoder.embedding, tied=False), head=head, mtp=())


def family_of(decoder: Decoder) -> Family:
    """The family that knows the tensor names of `decoder`."""
    found = family(decoder.family)
    if found is None:
        raise ValueError(f"no architecture file reads the model_type {decoder.family!r}")
    return found
