"""Other engines, driven as plainly as they allow, to be measured beside ours: transformers, and llama.cpp through
`llama-cpp-python`. Neither is needed for anything else."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

if TYPE_CHECKING:
    from torch import nn

# enum llama_ftype in llama.h
FILE_TYPES = {
    "F32": 0,
    "F16": 1,
    "Q4_0": 2,
    "Q4_1": 3,
    "Q8_0": 7,
    "Q5_0": 8,
    "Q5_1": 9,
    "Q4_K": 15,
    "Q5_K": 17,
    "Q6_K": 18,
    "BF16": 32,
}


def has_llama_cpp() -> bool:
    """Whether `llama-cpp-python` is installed."""
    return find_spec("llama_cpp") is not None


class Transformers:
    """transformers, by its default attention and cache; without its `generate`, which would only add to its time."""

    name = "transformers"

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def prefill(self, prompt: Sequence[int], new: int) -> int:
        """See `bench.Engine`."""
        self._cache: Any = None
        return self._read(prompt)

    def decode(self, token: int) -> int:
        """See `bench.Engine`."""
        return self._read([token])

    def _read(self, ids: Sequence[int]) -> int:
        import torch

        with torch.inference_mode():
            rows = torch.tensor([ids])
            out = self._model(input_ids=rows, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        self._cache = out.past_key_values
        return int(out.logits[0, -1].argmax())


class LlamaCpp:
    """llama.cpp on a GGUF file, on the CPU, by its C interface: no sampling and no text, only the next token.

    Args:
        path: the file.
        context: the most tokens that a sequence may have.
        batch: tokens of a prompt that it is given at once; llama.cpp itself cuts them into pieces of 512.
        threads: for everything.
    """

    def __init__(self, path: Path, context: int = 4096, batch: int = 2048, threads: int | None = None) -> None:
        api = _llama_cpp()
        self._api, self._batch = api, batch
        settings = api.llama_model_default_params()
        settings.n_gpu_layers = 0
        self._model = api.llama_model_load_from_file(str(path).encode(), settings)
        if not self._model:
            raise InputError(f"{path}: llama.cpp {version()} cannot load it")
        how = api.llama_context_default_params()
        how.n_ctx, how.n_batch = context, batch
        if threads:
            how.n_threads = how.n_threads_batch = threads
        self._context = api.llama_init_from_model(self._model, how)
        if not self._context:
            raise InputError(f"{path}: llama.cpp {version()} cannot make a context of {context} tokens")
        self._vocab = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self._model))
        self.name = f"llama.cpp {kind_of(path)}"

    def prefill(self, prompt: Sequence[int], new: int) -> int:
        """See `bench.Engine`."""
        self._forget()
        for start in range(0, len(prompt), self._batch):
            self._read(prompt[start : start + self._batch])
        return self._best()

    def decode(self, token: int) -> int:
        """See `bench.Engine`."""
        self._read([token])
        return self._best()

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """The logits after each of at most `batch` tokens, (T, V)."""
        api = self._api
        self._forget()
        batch = api.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
            batch.seq_id[i][0] = 0
        self._check(api.llama_decode(self._context, batch))
        api.llama_batch_free(batch)
        rows = [self._row(i).copy() for i in range(len(ids))]
        return np.stack(rows)

    def close(self) -> None:
        """Frees what it holds."""
        self._api.llama_free(self._context)
        self._api.llama_model_free(self._model)

    def _forget(self) -> None:
        self._api.llama_memory_clear(self._api.llama_get_memory(self._context), True)

    def _read(self, ids: Sequence[int]) -> None:
        tokens = (self._api.llama_token * len(ids))(*ids)
        self._check(self._api.llama_decode(self._context, self._api.llama_batch_get_one(tokens, len(ids))))

    def _best(self) -> int:
        return int(self._row(-1).argmax())

    def _row(self, index: int) -> NDArray[np.float32]:
        return np.ctypeslib.as_array(self._api.llama_get_logits_ith(self._context, index), (self._vocab,))

    @staticmethod
    def _check(status: int) -> None:
        if status:
            raise InputError(f"llama.cpp {version()} refused the tokens (status {status}): is its context long enough?")


def quantized(path: Path, kind: str, folder: Path) -> Path:
    """The GGUF file at `path` in another kind (a key of FILE_TYPES), written into `folder` by llama.cpp's own
    quantiser."""
    api, target = _llama_cpp(), folder / f"{path.stem}.{kind}.gguf"
    how = api.llama_model_quantize_default_params()
    how.ftype, how.allow_requantize = FILE_TYPES[kind], True
    if api.llama_model_quantize(str(path).encode(), str(target).encode(), ctypes.byref(how)):
        raise InputError(f"{path}: llama.cpp {version()} cannot write it as {kind}")
    return target


def kind_of(path: Path) -> str:
    """The kind of most of a file's weights, such as "Q4_1"."""
    from collections import Counter

    from ..checkpoints.gguf import GGUF

    held: Counter[str] = Counter()
    for info in GGUF.open(path).tensors.values():
        held[info.kind] += info.nbytes
    return held.most_common(1)[0][0]


def version() -> str:
    """Of `llama-cpp-python`."""
    return str(_llama_cpp().__version__)


@cache
def _llama_cpp() -> ModuleType:
    """The library, told not to print."""
    if not has_llama_cpp():
        raise InputError("llama.cpp is not there to compare with: pip install llama-cpp-python")
    import llama_cpp

    llama_cpp.llama_log_set(_silence(llama_cpp), ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    return llama_cpp


@cache
def _silence(api: ModuleType) -> Any:
    """A callback that drops what is logged; cached, because the library keeps a pointer to it."""
    return api.llama_log_callback(lambda level, text, data: None)
