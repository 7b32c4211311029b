"""What the letters of equations mean."""

from __future__ import annotations

import re

SYMBOL = re.compile(r"[A-Za-zα-ωΑ-Ω][A-Za-zα-ωΑ-Ω_\u0302]*[ₐ-ₜᵢⱼₑₕₛ₀-₉]*")

# Letters with one meaning in the equations that hold a mark, another or none elsewhere: (letter, mark, meaning).
HERE = (
    ("b", "dt", "what is written into the memory: a vector for each token, as keys are"),
    ("c", "dt", "what is read from the memory: a vector for each token, as queries are"),
    ("w", "dt", "the norm's weight"),
    ("z", "deviation", "the share of a normal distribution that is kept, in deviations"),
    ("c", "W_a", "the latent that is kept for each token, of which all heads' keys and values are made"),
    ("w", "w·x", "a learned vector"),
    ("s", "relu", "an earlier position"),
    ("s", "encoder", "a position of the text that the encoder has read"),
    ("h", "next", "the output of the layers before"),
    ("e", "W_gate", "the layer's own embedding of the token"),
    ("s", "s · x", "a learned number"),
    ("i", "xᵢ", "a stream: one of several copies of the residual"),
    ("P", "position", "a table with a learned vector for each position"),
    ("E", "token", "the embedding: a table with a vector for each token"),
)
MEANINGS = {
    "x": "the input of this part, a vector for each token",
    "y": "the output",
    "z": "the gate: one more projection of x",
    "W": "a learned matrix",
    "b": "a learned bias",
    "w": "a learned vector, or the weight of what is summed",
    "q": "queries: what a position looks for",
    "k": "keys: what a position is found by",
    "v": "values: what a position hands on",
    "W_q": "makes queries of x",
    "W_k": "makes keys of x",
    "W_v": "makes values of x",
    "W_o": "brings the heads' outputs back to the width of the stream",
    "W_out": "brings the heads' outputs back to the width of the stream",
    "W_g": "makes the gate of x",
    "W_a": "narrows x to the latent",
    "W_b": "makes keys and values of the latent",
    "W_qa": "narrows x to the queries' latent",
    "W_qb": "makes queries of their latent",
    "W_gate": "makes the gate",
    "W_up": "widens x to the hidden dimension",
    "W_down": "brings it back to the width of the stream",
    "W_latent": "narrows x for the experts",
    "W_left": "narrows x to a low rank",
    "W_right": "brings it back",
    "W_join": "makes one vector of two",
    "W_β": "makes a rate for each head of x",
    "Wᵢ": "the matrix that makes stream i",
    "Vᵢ": "the matrix that takes stream i back",
    "k_nope": "the part of a key without positions",
    "q_nope": "the part of a query without positions",
    "k_rope": "the part of a key that RoPE turns, shared by all heads",
    "q_rope": "the part of a query that RoPE turns",
    "qₕ": "the query of the indexer's head h",
    "kₛ": "the indexer's key at position s",
    "wₕ": "the weight of the indexer's head h",
    "S": "the memory: a matrix for each head, which does not grow with the text",
    "A": "how fast each head forgets",
    "D": "how much of x goes past the memory",
    "dt": "the step: how much time a token takes, for each head",
    "α": "how much of the memory is kept",
    "αS": "the memory after some is forgotten",
    "β": "how much of the difference is written",
    "p": "the probabilities of the experts",
    "wₑ": "the router's weight of expert e",
    "sₑ": "a learned number of expert e",
    "expertₑ": "the feed-forward layer e of the chosen",
    "shared": "the expert that every token passes through",
    "sink": "a learned score of each head for looking nowhere",
    "bias": "what is added to the scores, by distance",
    "xᵢ": "stream i: one of several copies of the residual",
    "xⱼ": "stream j",
    "x₀": "the first stream",
    "x̂": "what a layer is expected to give",
    "x̂ᵢ": "what stream i is expected to be",
    "pᵢⱼ": "how stream j is mixed into stream i",
    "cᵢ": "how much stream i is corrected",
    "table": "a learned vector for each token",
    "bucket": "distances that are treated alike have one number",
    "σ": "the logistic function, 1 / (1 + exp(−x))",
    "ε": "a small number that keeps from dividing by zero",
    "Σ": "the sum",
    "Σx": "the sum of x",
    "Σₕ": "the sum over the indexer's heads",
    "Σⱼ": "the sum over the streams",
    "e": "an expert",
    "θᵢ": "the frequency of the pair of channels i",
    "mθᵢ": "the position m times the frequency of pair i",
    "m": "the position",
    "x₁": "one channel of a pair",
    "x₂": "the other",
    "rᵢ": "how far pair i is changed, from 0 to 1",
    "r": "how far a pair is changed, from 0 to 1",
    "fᵢ": "the factor of pair i",
    "f": "the factors of the pairs",
}

# English, and functions that are called by their names
WORDS = frozenset(
    """after all and as at attention be before best between beyond body by cos deviation diag distance distribution down
    each earlier encoder exp experts feed first for forward found from gate groups has head highest i in input is its j
    laurel layer layers ln log low mean mixed next norm normal not of on or others output over pairs per position ramp
    recurrence relu rms scale scaled score scores selection sin softmax stream tanh the their them those times to token
    tokens top turns unit up use var wavelengths with GELU LayerNorm RMSNorm ReLU RoPE SiLU""".split()
)


def symbols(equation: str) -> dict[str, str]:
    """Each letter of an equation and what it means there, in order."""
    found = {}
    for letter in dict.fromkeys(SYMBOL.findall(equation)):
        here = next((meaning for name, mark, meaning in HERE if name == letter and mark in equation), None)
        if meaning := here or MEANINGS.get(letter):
            found[letter] = meaning
    return found


def undefined(equation: str) -> list[str]:
    """Letters of an equation that nothing is said of."""
    known = symbols(equation)
    return [letter for letter in dict.fromkeys(SYMBOL.findall(equation)) if letter not in known and letter not in WORDS]
