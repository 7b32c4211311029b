"""How far each weight format is from float32: the mean KL divergence of the next-token distributions over real text,
ours and llama.cpp's at the same format, from the same float32 weights; and of files in llama.cpp's kinds, read by both.

`python benchmarks/quality.py model.f32.gguf text.md … [--tokens 2048]`. Needs the torch extra, and `llama-cpp-python`
for the peer, which quantises the file itself.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import vitruvius as vt
from vitruvius.inference.peers import LlamaCpp, quantized

Floats = NDArray[np.float32]
WINDOW = 512  # tokens that are read together, so that context matters
PAIRS = {"f32": ("F32",), "bf16": ("BF16",), "q8": ("Q8_0",), "q4": ("Q4_1",)}  # ours -> llama.cpp's
FILES = ("Q4_0", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K")


def windows(ids: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """The first `tokens` ids in pieces of at most WINDOW."""
    for start in range(0, tokens, WINDOW):
        yield list(ids[start : min(start + WINDOW, tokens)])


def log_probabilities(logits: Floats) -> NDArray[np.float64]:
    """(T, V) -> (T, V)."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def divergence(reference: Floats, logits: Floats) -> NDArray[np.float64]:
    """KL(reference ‖ other) of each token, (T,), in nats."""
    p, q = log_probabilities(reference), log_probabilities(logits)
    return (np.exp(p) * (p - q)).sum(-1)


def measure(name: str, read: Callable[[list[int]], Floats], references: list[Floats], pieces: list[list[int]]) -> None:
    """Prints the mean KL, and the share of tokens whose most likely successor is the same."""
    divergences, same = [], []
    for piece, reference in zip(pieces, references, strict=True):
        logits = read(piece)
        divergences.append(divergence(reference, logits))
        same.append(reference.argmax(-1) == logits.argmax(-1))
    print(f"{name:20} {np.concatenate(divergences).mean():.3e}  {np.concatenate(same).mean():.4f}", flush=True)


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--tokens", type=int, default=2048)
    options = parser.parse_args()
    text = "\n".join(path.read_text("utf-8") for path in options.texts)
    ids = vt.tokenizer(options.model).encode(text)
    if len(ids) < options.tokens:
        raise SystemExit(f"the texts have {len(ids)} tokens, {options.tokens} are wanted: give more")
    pieces = list(windows(ids, options.tokens))
    twin = vt.load(options.model)
    with torch.inference_mode():
        references = [twin(torch.tensor([piece]))[0].numpy() for piece in pieces]
    del twin
    print(
        f"{options.model.name}, {options.tokens} tokens in windows of {WINDOW}; mean KL to float32, same first choice"
    )
    with tempfile.TemporaryDirectory() as folder:
        made = {kind: quantized(options.model, kind, Path(folder)) for kind in (*sum(PAIRS.values(), ()), *FILES)}
        runs = [(ours, options.model, kind) for ours, kinds in PAIRS.items() for kind in kinds]
        for ours, file, kind in [*runs, *(("as-is", made[kind], kind) for kind in FILES)]:
            engine = vt.engine(file, weights=ours)
            name = kind if ours == "as-is" else ours
            measure(f"vitruvius {name}", lambda ids, engine=engine: engine([ids])[0], references, pieces)
            peer = LlamaCpp(made[kind], batch=WINDOW)
            measure(f"llama.cpp {kind}", peer.logits, references, pieces)
            peer.close()


if __name__ == "__main__":
    main()
