"""What a training run is: one flat record, from a RUN.yaml and `key=value` words.

Keys have one meaning each, and `run.yaml` in the run's folder has all of them. What cannot be is said before anything
is built.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ..errors import InputError

Schedule = Literal["cosine", "wsd", "linear", "constant"]


@dataclass(frozen=True)
class Recipe:
    """A training run.

    Args:
        out: the run's folder; None writes nothing.
        model: a name, path or hub id, or the contents of a config.json; None is a Llama of about 10M parameters.
        start: "random" weights, or those of the "checkpoint" that `model` names. None: the checkpoint where `model` is
            the path of one, else random.
        data: files (.txt, .jsonl, .parquet), or a folder of them; None is the text that comes with the package.
        text: the key of the texts in .jsonl and the column in .parquet.
        tokenizer: "bytes", "train" (on the data), or where a tokenizer is (a file, a folder, a model); None is the
            model's own, or "train" where it has none.
        vocab: how many tokens a tokenizer is trained to have.
        validation: the share of the text that is held out.
        steps: of the optimiser.
        seed: of the weights and of the order of the rows.
        batch: rows that one step sees.
        sequence: tokens of a row.
        accumulate: into how many parts the batch is cut, one after the other, to need less memory. The gradients are
            those of the whole batch.
        lr: the highest learning rate.
        min_lr: the lowest one at the end, as a share of the highest.
        warmup: steps until the highest; a fortieth of all, if None.
        schedule: how it falls: "cosine" (Loshchilov and Hutter 2016, arXiv 1608.03983), "wsd" (constant, then linear
            over the last share `decay`; Hu et al. 2024, arXiv 2404.06395), "linear", "constant".
        decay: of "wsd".
        optimizer: "adamw" or "muon".
        beta1, beta2: AdamW's.
        weight_decay: of matrices; vectors have none.
        clip: the largest norm of the gradients; None for no limit.
        z_loss: weight of the squared log-sum of the logits' exponentials (PaLM, arXiv 2204.02311, section 5).
        balance, router_z: weights of the routers' auxiliary loss (Switch, arXiv 2101.03961, section 2.2; taken over
            each row with `balance_by_sequence`) and of their squared log-sums (ST-MoE, arXiv 2202.08906).
        balance_bias: by how much selection biases move after each step (arXiv 2408.15664).
        mtp: weight of the loss of tokens further ahead; 0 leaves the layers for it out.
        lora: the rank of adapters that are trained in the place of the weights, which stay as they are; their scale is
            `lora_alpha` / `lora`, 2 where that is None. `quantize` keeps the weights in four bits (QLoRA).
        precision: "f32", "bf16" (autocast), or "auto", which measures both at the start.
        device: "cpu", "cuda", …; None is the first GPU, where there is one.
        checkpointing: whether layers run forward again for their gradients, to need less memory.
        compile: whether layers are compiled.
        log_every, eval_every, save_every: in steps.
        eval_batches: how many batches of held-out text are evaluated at most.
        keep: how many of the last checkpoints stay; the best one stays too.
        resume: goes on with the run in `out`.
        parallel: {data: 2, tensor: 2, …} for a run under torchrun.
        tracker: "tensorboard", "trackio" or "wandb", besides metrics.jsonl.
        profile: writes a trace of some steps, and a table of the most expensive parts.
    """

    out: str | None = None
    model: str | Mapping[str, Any] | None = None
    start: Literal["random", "checkpoint"] | None = None
    data: str | list[str] | None = None
    text: str = "text"
    tokenizer: str | None = None
    vocab: int = 2048
    validation: float = 0.05
    steps: int = 800
    seed: int = 0
    batch: int = 4
    sequence: int = 128
    accumulate: int = 1
    lr: float = 2e-3
    min_lr: float = 0.1
    warmup: int | None = None
    schedule: Schedule = "cosine"
    decay: float = 0.2
    optimizer: Literal["adamw", "muon"] = "adamw"
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1
    clip: float | None = 1.0
    z_loss: float = 0.0
    balance: float = 0.0
    balance_by_sequence: bool = False
    balance_bias: float = 0.0
    router_z: float = 0.0
    mtp: float = 0.0
    lora: int | None = None
    lora_alpha: float | None = None
    quantize: bool = False
    precision: Literal["auto", "f32", "bf16"] = "auto"
    device: str | None = None
    checkpointing: bool = False
    compile: bool = False
    log_every: int = 1
    eval_every: int = 100
    eval_batches: int = 20
    save_every: int = 100
    keep: int = 2
    resume: bool = False
    parallel: Mapping[str, int] | None = None
    tracker: Literal["tensorboard", "trackio", "wandb"] | None = None
    profile: bool = False

    @property
    def warm_up(self) -> int:
        """Steps until the highest learning rate."""
        return self.steps // 40 if self.warmup is None else self.warmup

    def __post_init__(self) -> None:
        hints = get_type_hints(Recipe)
        for key, value in asdict(self).items():
            if not _fits(value, hints[key]):
                raise InputError(f"{key}: {value!r} is not {_told(hints[key])}")
        self._check_numbers()
        self._check_together()

    def _check_numbers(self) -> None:
        for key, least in LEAST.items():
            if (value := getattr(self, key)) is not None and value < least:
                raise InputError(f"{key}: {getattr(self, key)} is less than {least}")
        for key in SHARES:
            if not 0 <= getattr(self, key) <= 1:
                raise InputError(f"{key}: {getattr(self, key)} is not a share from 0 to 1")
        if not 0 < self.lr < float("inf"):
            raise InputError(f"lr: {self.lr} is not a learning rate above 0")
        if self.clip is not None and not self.clip > 0:
            raise InputError(f"clip: {self.clip} is not above 0; null is no limit")
        if self.validation >= 1:
            raise InputError("validation: 1 would hold out all of the text; leave some for training")

    def _check_together(self) -> None:
        if self.batch % self.accumulate:
            raise InputError(
                f"batch: {self.batch} rows cannot be cut into accumulate={self.accumulate} equal parts; "
                f"take one of {', '.join(str(n) for n in range(1, self.batch + 1) if self.batch % n == 0)}"
            )
        if self.warmup and self.warmup >= self.steps:
            raise InputError(
                f"warmup: {self.warmup} steps are not fewer than the {self.steps} of the run; "
                "leave it out for a fortieth"
            )
        if self.resume and self.out is None:
            raise InputError("resume: goes on with the run in `out`, which is not given")
        if self.quantize and self.lora is None:
            raise InputError("quantize: weights in four bits cannot be trained; add lora=16 for adapters")
        if self.lora is not None and self.optimizer != "adamw":
            raise InputError(f"optimizer: adapters are AdamW's, and {self.optimizer} would do nothing beside")
        if self.lora is not None and self.start == "random":
            raise InputError("lora: adapters beside random weights learn little; train all of them, without lora")
        if self.profile and self.steps < 5:
            raise InputError(f"profile: looks at steps 3 to 5, and the run has {self.steps}")
        if self.start == "checkpoint" and not isinstance(self.model, str):
            raise InputError("start: a checkpoint needs a model that names it")


LEAST = {"vocab": 258, "steps": 1, "seed": 0, "batch": 1, "sequence": 2, "accumulate": 1, "warmup": 0, "log_every": 1}
LEAST |= {"eval_every": 1, "eval_batches": 1, "save_every": 1, "keep": 1, "weight_decay": 0, "z_loss": 0}
LEAST |= {"balance": 0, "balance_bias": 0, "router_z": 0, "mtp": 0, "lora": 1}
SHARES = ("validation", "min_lr", "decay", "beta1", "beta2")


def read(file: str | os.PathLike[str] | None = None, words: Iterable[str] = (), **defaults: Any) -> Recipe:
    """The recipe of a RUN.yaml, changed by `key=value` words, whose values are YAML too.

    Args:
        defaults: of keys that neither says.

    A run that goes on (`resume=true out=DIR`) needs no file: the folder has its own.

    Raises InputError, in one line, for a file that cannot be read, an unknown key (with the nearest), and values that
    cannot be.
    """
    found = {**defaults, **(_file(Path(file)) if file is not None else {})}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise InputError(f"{word!r} is not key=value, such as steps=1000")
        found[key.strip()] = of_yaml(value, key)
    known = [field.name for field in fields(Recipe)]
    begun = Path(str(found.get("out"))).expanduser() / "run.yaml"
    if file is None and found.get("resume") is True and begun.is_file():  # the rest is what the run began with
        found = {**_file(begun), **found}
    for key in found:
        if key not in known:
            near = get_close_matches(key, known, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(known)}"
            raise InputError(f"unknown key {key!r}; {hint}")
    hints = get_type_hints(Recipe)
    return Recipe(**{key: _converted(value, hints[key]) for key, value in found.items()})


def _file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8") from None
    content = of_yaml(text, str(path))
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InputError(f"{path}: a run is keys with values, such as `steps: 1000`")
    return content


def of_yaml(text: str, where: str) -> Any:
    """What a YAML text says; 1e-3 is a number, as YAML 1.2 and everybody has it, and PyYAML's 1.1 has not.

    Raises InputError for what is no YAML.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    number = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not YAML: {' '.join(str(error).split())[:200]}") from None


def _converted(value: Any, hint: Any) -> Any:
    """3 where 3.0 is meant, and 1000 for 1e3."""
    kinds = _kinds(hint)
    if float in kinds and type(value) is int:
        return float(value)
    return int(value) if int in kinds and isinstance(value, float) and value.is_integer() else value


def _kinds(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if isinstance(hint, UnionType) or get_origin(hint) not in (None, Literal, list) else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    for kind in get_args(hint) if isinstance(hint, UnionType) else _kinds(hint):
        origin = get_origin(kind)
        if origin is Literal and isinstance(value, str) and value in get_args(kind):
            return True
        if origin is list and isinstance(value, list) and all(isinstance(item, str) for item in value):
            return True
        if origin not in (None, Literal, list) and isinstance(value, Mapping):
            return all(isinstance(key, str) for key in value)
        if origin is None and type(value) is kind:
            return True
    return False


def _told(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", NoneType: "null"}
    told: list[str] = []
    for kind in get_args(hint) if isinstance(hint, UnionType) else (hint,):
        origin = get_origin(kind)
        if origin is Literal:
            told += get_args(kind)
        else:
            told.append(names.get(kind) or ("a list of texts" if origin is list else "a mapping"))
    return f"one of {', '.join(told)}" if len(told) > 1 else told[0]
