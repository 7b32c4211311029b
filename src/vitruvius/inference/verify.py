"""The same logits as transformers? And if not, the first module that differs.

Both models run on the same tokens with hooks on the modules that the name map pairs. They are compared in the order in
which ours finish, so that the first difference is the deepest: the parts of an attention come before the attention.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import spec
from ..architectures import family_of
from ..checkpoints.files import read_json
from ..checkpoints.matching import PLACES
from ..checkpoints.sources import architecture, weights
from ..errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..nn import Decoder

TOLERANCE = 2e-4  # of logits, absolute; of values above 10, relative to a tenth of the largest
CACHED = 16  # tokens that are read one at a time in the second pass


@dataclass(frozen=True)
class FirstDifference:
    """The first module that differs.

    Args:
        module: its canonical path in our model.
        reference: its name in the reference.
        largest: the largest difference of their outputs, and `values` the largest value there.
        token: the first position with a difference beyond the tolerance, None where outputs are not per token.
        given: the largest difference of their inputs; None where these cannot be compared.
    """

    module: str
    reference: str
    largest: float
    values: float
    token: int | None
    given: float | None

    def __str__(self) -> str:
        where = "" if self.token is None else f", first at token {self.token}"
        given = "" if self.given is None else f"; their inputs differ by {self.given:.1e}"
        return (
            f"{self.module} ({self.reference}) is the first module that differs: by {self.largest:.1e} of values up to "
            f"{self.values:.1e}{where}{given}"
        )


@dataclass(frozen=True)
class Verdict:
    """What a comparison found.

    Args:
        full: the largest difference of logits in one pass, `cached` of those through the state.
        values: the largest logit; `tolerance` what is allowed.
        agreed: the share of positions where both have the same most probable token.
        difference: the first module that differs, if any.
    """

    model: str
    reference: str
    batch: int
    tokens: int
    full: float
    cached: float
    values: float
    tolerance: float
    agreed: float
    difference: FirstDifference | None

    @property
    def equal(self) -> bool:
        """Whether all logits are within the tolerance."""
        return self.full <= self.tolerance and self.cached <= self.tolerance


def verify(
    source: str | os.PathLike[str],
    tokens: int | None = None,
    batch: int = 2,
    seed: int = 0,
    ignore: tuple[str, ...] = (),
) -> Verdict:
    """Compares a model with transformers' on random prompts, in float32.

    Args:
        source: anything with weights that `vitruvius.load` takes. A .gguf file is dequantised once, for both.
        tokens: length of the prompts; by default past the longest window, as far as the context allows.
        batch: how many prompts.
        seed: of the prompts.
        ignore: as for `vitruvius.load`.

    Raises InputError where transformers is not installed or does not know the model.
    """
    import torch

    from ..models import load

    version = _installed()
    model = load(source, ignore=ignore)
    if model.spec.encoder:
        raise InputError(f"{model.spec.name} has an encoder; comparing such models is not supported yet")
    ids = prompts(model.spec, model.origin.checkpoint.config, tokens, batch, seed)
    with reference_folder(source, lambda: model) as folder:
        theirs = reference_model(folder)
    with torch.no_grad():
        wanted = given(theirs, ids)
        full = model(ids)
        state = model.new_state(batch, ids.shape[1])
        single = min(CACHED, ids.shape[1] - 1)
        parts = ids.split([ids.shape[1] - single, *[1] * single], 1)
        cached = torch.cat([model(part, state) for part in parts], 1)
    if wanted.ndim == 2:  # of texts as a whole
        full, cached = full[:, -1], cached[:, -1]
    values = float(wanted.abs().max())
    largest, tolerance = (_largest(full, wanted), _largest(cached, wanted)), TOLERANCE * max(1.0, values / 10)
    return Verdict(
        model=model.spec.name,
        reference=f"transformers {version}",
        batch=batch,
        tokens=ids.shape[1],
        full=largest[0],
        cached=largest[1],
        values=values,
        tolerance=tolerance,
        agreed=float((full.argmax(-1) == wanted.argmax(-1)).float().mean()),
        difference=None if max(largest) <= tolerance else first_difference(model, theirs, ids),
    )


def first_difference(
    model: Decoder, reference: nn.Module | str | os.PathLike[str], input_ids: Tensor, tolerance: float = 1e-4
) -> FirstDifference | None:
    """The first module whose output is not that of its counterpart.

    Args:
        model: ours.
        reference: transformers' model, or the folder of its checkpoint.
        input_ids: (B, T).
        tolerance: relative to the largest value of an output.
    """
    import torch

    theirs = reference_model(Path(reference)) if isinstance(reference, str | os.PathLike) else reference
    pairs = paired_modules(model, theirs)
    # Inside a layer the work may be divided in another way (a scale in a module or after it): that is no difference
    # where the layer ends equal.
    ends = {"head", *(f"layers.{i}" for i in range(len(model.spec.layers)))}
    with torch.no_grad(), _recorded({name: model.get_submodule(name) for name in pairs}) as ours:
        logits = model(input_ids)
    with torch.no_grad(), _recorded({name: module for name, (_, module) in pairs.items()}) as wanted:
        wanted_logits = given(theirs, input_ids)
    logits = logits[:, -1] if wanted_logits.ndim == 2 else logits
    # what follows the head's matrix (a softcap) is inside our module and outside of theirs
    if "head" in pairs:
        ours["head"], wanted["head"] = (ours["head"][0], logits), (wanted["head"][0], wanted_logits)
    pending: FirstDifference | None = None
    for name in ours:
        if name not in wanted or (got := _aligned(ours[name][1], wanted[name][1])) is None:
            continue
        found = _difference(name, pairs[name][0], ours[name][0], got, *wanted[name], tolerance)
        pending = pending or found
        if name in ends:
            if found:
                return pending
            pending = None
    return None


def _difference(
    module: str, reference: str, given: Tensor, got: Tensor, wanted_given: Tensor, want: Tensor, tolerance: float
) -> FirstDifference | None:
    """How one module's output `got` differs from its counterpart's, if it does."""
    values = float(want.abs().max())
    bad = ~((got - want).abs() <= tolerance * values)  # NaN counts as bad
    if not bad.any():
        return None
    tokens = bad.flatten(2).any(-1).any(0) if bad.ndim == 3 else None
    aligned = _aligned(given, wanted_given)
    return FirstDifference(
        module=module,
        reference=reference,
        largest=_largest(got, want),
        values=values,
        token=None if tokens is None else int(tokens.nonzero()[0]),
        given=None if aligned is None else _largest(aligned, wanted_given),
    )


def paired_modules(model: Decoder, theirs: nn.Module) -> dict[str, tuple[str, nn.Module]]:
    """Path of our module -> (name, module) of its counterpart, where there is one."""
    irregular = family_of(model.spec).irregular(model.spec)
    named = spec.module_names(model.spec, irregular)
    for entry in spec.spelled(model.spec, irregular):  # linear layers are no parts of the tree, but have names
        if len(entry.ours) == len(entry.theirs) == 1:
            (ours,), (weight,) = entry.ours, entry.theirs
            named.setdefault(ours.removesuffix(".weight"), weight.removesuffix(".weight"))
    modules, existing = dict(theirs.named_modules()), {name for name, _ in model.named_modules()}
    pairs: dict[str, tuple[str, nn.Module]] = {}
    taken: set[str] = set()
    for ours in sorted(existing & named.keys(), key=len):  # a branch has no module of its own there, only the layer has
        name = next((place(named[ours]) for place in PLACES if place(named[ours]) in modules), None)
        if name and name not in taken:
            pairs[ours] = (name, modules[name])
            taken.add(name)
    return pairs


@contextmanager
def _recorded(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Within it, what each module is given and gives is kept by name, in the order in which they finish."""
    import torch

    record: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            given = args[0] if args else next(iter(kwargs.values()))
            made = output[0] if isinstance(output, tuple) else output
            if isinstance(given, torch.Tensor) and isinstance(made, torch.Tensor):
                record[name] = (given, made)

        return hook

    handles = [module.register_forward_hook(keep(name), with_kwargs=True) for name, module in modules.items()]
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()


def _aligned(ours: Tensor, theirs: Tensor) -> Tensor | None:
    """`ours` in the shape of `theirs`: heads stand before the tokens or after. None where they are not comparable."""
    forms = [ours, ours.transpose(1, 2)] if ours.ndim == 4 else [ours]
    fitting = [form for form in forms if form.shape == theirs.shape]
    return min(fitting, key=lambda form: _largest(form, theirs), default=None)


def _largest(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, infinite where one is not a number."""
    return float((ours - theirs).abs().nan_to_num(float("inf")).max())


def _installed() -> str:
    try:
        return metadata.version("transformers")
    except metadata.PackageNotFoundError:
        raise InputError(
            "transformers is not installed, and it is what models are compared with: pip install transformers"
        ) from None


def given(reference: nn.Module, input_ids: Tensor) -> Tensor:
    """What transformers' model gives: logits, scores of labels, (B, labels) where they are of texts as a whole, or
    hidden states."""
    import torch

    # a classifier of texts takes one at a time: several need a padding token, to be told from it
    alone = type(reference).__name__.endswith("ForSequenceClassification")
    results = [reference(input_ids=ids, use_cache=False) for ids in (input_ids.split(1) if alone else [input_ids])]
    return torch.cat([found["logits"] if "logits" in found else found["last_hidden_state"] for found in results])


@contextmanager
def reference_folder(source: str | os.PathLike[str], model: Callable[[], Decoder]) -> Iterator[Path]:
    """A folder that transformers can load: the source itself, or our weights written into one that is temporary."""
    from ..saving import save

    path = weights(source)
    if path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="vitruvius-") as folder:
        save(model(), folder)
        yield Path(folder)


def reference_model(
    folder: Path, dtype: str = "float32", attention: str = "eager", experts: str | None = "eager"
) -> nn.Module:
    """transformers' model of a checkpoint's folder; "eager" is its plain implementation of attention and of experts,
    None its own choice."""
    version = _installed()
    import transformers
    from huggingface_hub.errors import StrictDataclassError
    from transformers.models.auto import modeling_auto

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    values = read_json(folder / "config.json")
    kind = values.pop("model_type")
    if kind in ("vitruvius", "vitruvius_tree"):
        raise InputError(f"{folder}: transformers has no class for an edited architecture")
    if kind not in transformers.CONFIG_MAPPING:  # kimi_k2 has no class of its own there, but its family has
        kind = architecture(folder).family
    usual = (
        modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
        if "text_config" in values
        else modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    )
    names = [*(values.get("architectures") or ()), usual.get(kind)]
    found = next((name for name in names if name in dir(transformers)), None)
    if kind not in transformers.CONFIG_MAPPING or found is None:
        raise InputError(f"{folder}: transformers {version} has no class for the model_type {kind!r}")
    try:
        config = transformers.CONFIG_MAPPING[kind].from_pretrained(folder, local_files_only=True)
        config.model_type = kind  # by which it knows how to read the experts
        model: nn.Module = getattr(transformers, found).from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            attn_implementation=attention,
            experts_implementation=experts,
            local_files_only=True,
        )
    except (ValueError, RuntimeError, OSError, KeyError, AssertionError, StrictDataclassError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(f"{folder}: transformers {version} cannot load it: {reason}") from error
    return model.eval()


def prompts(decoder: spec.Decoder, config: Mapping[str, object], tokens: int | None, batch: int, seed: int) -> Tensor:
    """Random tokens (B, T), none of which stands for an image."""
    import torch

    states = [state for node in spec.walk(decoder, decoder.width) for state in node.spec.state().values()]
    windows = [state.window for state in states if isinstance(state, spec.PerToken) and state.window]
    length = min(decoder.context, tokens or max([64, *(window + CACHED for window in windows)]))
    special = {value for key, value in config.items() if key.endswith(("_token_id", "_token_index"))}
    usual = torch.tensor([token for token in range(decoder.embedding.vocab) if token not in special])
    generator = torch.Generator().manual_seed(seed)
    return usual[torch.randint(len(usual), (batch, length), generator=generator)]
