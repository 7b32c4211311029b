"""Changing an architecture on its page.

POST api/change   {id, changes: {key of a knob: what was written}} -> the page of the result, with `code` and `changes`
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from ... import catalog
from ...errors import InputError
from ...views.changing import changed
from ...views.diff import changes
from .data import page
from .known import known


def answer(body: bytes) -> dict[str, Any]:
    """The page of a model of the catalog with its changes. Raises InputError in one line."""
    try:
        asked = json.loads(body)
        name, wanted = asked["id"], dict(asked["changes"])
    except (ValueError, TypeError, KeyError):
        raise InputError('send {"id": a model of the catalog, "changes": {name: value}} as JSON') from None
    if name not in catalog.names():
        raise InputError(f"there is no architecture {str(name)[:60]!r} in the catalog")
    if not all(isinstance(text, str) and isinstance(key, str) for key, text in wanted.items()):
        raise InputError("what is changed is given as text")
    before = known(name)
    after = changed(before, wanted)
    nouns, numbers = changes(before, after.decoder)
    code = ["import vitruvius as vt", *after.imports, f'arch = vt.architecture("{name}")', *after.code]
    return {
        **page(replace(after.decoder, name=f"{catalog.entry(name).name}, changed")),
        "of": name,
        "code": "\n".join([*code, "print(vt.cost(arch))"]),
        "changes": [asdict(change) for change in (*nouns, *numbers)],
    }
