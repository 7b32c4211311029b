"""The tensors of a checkpoint under their Hugging Face names, one at a time: safetensors (one file or many) and
GGUF."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ..errors import InputError
from .packed import Unpacked
from .sources import PICKLES, pickle_refused, read_json

if TYPE_CHECKING:
    from .mapped import Mapped
    from .stored import Stored

Framework = Literal["pt", "np"]
INDEX = "model.safetensors.index.json"


class Checkpoint(Protocol):
    """Tensors by name, read when asked for."""

    path: Path
    packed: frozenset[str]  # the tensors that are stored in a few bits and unpacked when read

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Name -> shape of every tensor, from the headers alone."""

    def read(self, name: str) -> Any:
        """A tensor, as an array of the framework that the checkpoint was opened for."""

    def stored(self, name: str) -> Stored:
        """A tensor in the form that the file has, mapped and read-only where nothing must be moved."""

    def kind(self, name: str) -> str:
        """The kind of what `stored` gives, from the headers alone; F8_E4M3 where that is unpacked."""


def open_checkpoint(path: Path, framework: Framework = "pt") -> Checkpoint:
    """The checkpoint in a folder or .gguf file. Raises InputError where it is missing or damaged."""
    return GGUFTensors(path, framework) if path.is_file() else Unpacked(Safetensors(path, framework))


class Safetensors:
    """The safetensors files of a folder, mapped into memory."""

    packed: frozenset[str] = frozenset()

    def __init__(self, folder: Path, framework: Framework) -> None:
        from safetensors import SafetensorError, safe_open

        self.path = folder
        self._files: dict[str, Any] = {}  # tensor name -> open file
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._paths: dict[str, Path] = {}
        self._maps: dict[Path, Mapped] = {}
        index = _index(folder)
        for file in sorted(set(index.values())) if index else _alone(folder):
            try:
                opened = safe_open(str(folder / file), framework=framework)
                found = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
            except (SafetensorError, OSError) as error:
                raise InputError(f"{folder / file}: not a complete safetensors file ({error})") from None
            if doubled := sorted(found.keys() & self._files.keys()):
                raise InputError(f"{folder / file}: {doubled[0]} is in another file too")
            self._shapes |= found
            self._files |= dict.fromkeys(found, opened)
            self._paths |= dict.fromkeys(found, folder / file)
        for name, file in index.items():
            if name not in self._files:
                raise InputError(f"{folder / INDEX}: {name} should be in {file}, and is not")

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Name -> shape of every tensor."""
        return self._shapes

    def read(self, name: str) -> Any:
        """A tensor, still in the file's memory where the framework allows it."""
        return self._files[name].get_tensor(name)

    def stored(self, name: str) -> Stored:
        """A tensor in the form that the file has, mapped and read-only."""
        return self._mapped(name).stored(name)

    def kind(self, name: str) -> str:
        """The file's dtype."""
        return self._mapped(name).kind(name)

    def _mapped(self, name: str) -> Mapped:
        """The file that holds a tensor."""
        from .mapped import Mapped  # with numpy, which matching names can do without

        path = self._paths[name]
        if path not in self._maps:
            self._maps[path] = Mapped(path)
        return self._maps[path]


def _index(folder: Path) -> dict[str, str]:
    """Tensor name -> file, for checkpoints in several files."""
    path = folder / INDEX
    if not path.exists():
        return {}
    weight_map = read_json(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{path}: no weight_map in it")
    for name, file in weight_map.items():
        if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
            raise InputError(f"{path}: {name} points to {file!r}, which is no safetensors file of this folder")
        if not (folder / file).exists():
            raise InputError(f"{path}: {name} should be in {file}, and that file is missing")
    return weight_map


def _alone(folder: Path) -> list[str]:
    """The one safetensors file of a folder without an index."""
    if (folder / "model.safetensors").exists():
        return ["model.safetensors"]
    if pickles := sorted(path for path in folder.iterdir() if path.suffix in PICKLES):
        raise InputError(pickle_refused(pickles[0]))
    raise InputError(f"{folder}: no model.safetensors in it, and no {INDEX} that says what is where")


class GGUFTensors:
    """A GGUF file, dequantised to float32 tensor by tensor."""

    packed: frozenset[str] = frozenset()

    def __init__(self, path: Path, framework: Framework) -> None:
        from .gguf import GGUF
        from .gguf_names import tensors

        self.path, self._framework = path, framework
        self._tensors = tensors(GGUF.open(path))

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Name -> shape of every tensor."""
        return {name: self._tensors.shape(name) for name in self._tensors}

    def read(self, name: str) -> Any:
        """A tensor in float32."""
        array = self._tensors[name]
        if self._framework == "np":
            return array
        import torch

        return torch.from_numpy(array if array.flags.writeable else array.copy())

    def stored(self, name: str) -> Stored:
        """A tensor in the blocks that the file has."""
        return self._tensors.stored(name)

    def kind(self, name: str) -> str:
        """As GGUF calls it."""
        return self._tensors.kind(name)
