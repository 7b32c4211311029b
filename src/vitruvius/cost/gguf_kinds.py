"""llama.cpp's file types: which kind of block each tensor of a GGUF file gets.

The kinds and their blocks are ggml's (ggml/src/ggml-common.h). The rules are those of `llama-quantize`
(ggml-org/llama.cpp, src/llama-quant.cpp at 007dbbf3, `llama_tensor_get_type_impl`), read and written down in our own
order; for the published sizes of Llama 3.1 (tools/quantize/README.md) they give the published bits per weight. They
are told by the roles of tensors, so for attention, feed-forward layers and experts the bytes are exact; recurrent
mixers take a file type's plain kind here as there, but their converters rearrange a few small tensors.

Kinds of up to three bits that need an importance matrix are taken to have one, those of four to have none.

`NAME-pure` is `llama-quantize --pure`: one kind for all matrices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from ..spec import BLOCKS, Decoder, Node, walk
from .counting import Counted

# the kinds that llama-quantize writes
KINDS = """F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S
IQ4_NL IQ4_XS TQ1_0 TQ2_0 MXFP4""".split()
# file type -> the kind that its tensors have where no rule says otherwise
MIXTURES: Mapping[str, str] = {
    **{kind: kind for kind in KINDS if kind not in ("Q3_K", "Q4_K", "Q5_K", "IQ2_S", "MXFP4")},
    **{f"Q{n}_K_{size}": f"Q{n}_K" for n, sizes in ((2, "S"), (3, "SML"), (4, "SM"), (5, "SM")) for size in sizes},
    "IQ2_S": "IQ2_XS",
    "IQ2_M": "IQ2_S",
    "IQ3_XS": "IQ3_S",
    "IQ3_M": "IQ3_S",
    "MXFP4_MOE": "MXFP4",
}
SHORT = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}  # as llama-quantize reads them
NARROWER = {  # what a row that is no multiple of 256 gets instead
    **dict.fromkeys(("Q2_K", "Q3_K", "TQ1_0", "TQ2_0"), "Q4_0"),
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"),
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}
SMALLEST = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M")


@dataclass(frozen=True)
class Mixture:
    """A file type for one architecture.

    Args:
        base: the kind of tensors that no rule names.
        pure: whether no rule holds.
        layers: how many, and `values` which of them have a matrix of values, in order.
        group: query heads that share a key.
        experts: 1 where there are none.
        seventy: a model of 80 layers with grouped heads, whose values get more bits.
    """

    name: str
    base: str
    pure: bool
    layers: int
    values: tuple[int, ...]
    group: int
    experts: int
    seventy: bool

    def compute(self, dtype: str) -> str:
        """The dtype of the factors of matrix products: the blocks are unpacked to that of the activations."""
        return dtype

    def stored(self, weight: Counted, dtype: str) -> int:
        """Bytes of all copies. `dtype` is not asked: what is not packed is float32 here."""
        *rows, columns = weight.weight.shape
        if shapes := weight.node.spec.gguf_shapes(weight.name):
            kind = self.base if self.name != "MXFP4_MOE" else "Q8_0"
            return weight.copies * sum(prod(shape[:-1]) * _row(shape[-1], kind) for shape in shapes)
        return weight.copies * prod(rows) * _row(columns, self.kind(weight))

    def tile_of(self, weight: Counted) -> tuple[int | None, int | None] | None:
        """Rows and columns that share a scale and that engines refuse to cut, None for all of them; None for a weight
        without such."""
        return None  # llama.cpp cuts whole blocks

    def kind(self, weight: Counted) -> str:
        """The kind of block that a tensor has."""
        what = role(weight)
        if what is None:
            return "F32"
        if self.pure or self.base in ("F32", "F16", "BF16"):
            return self.base
        if what == "head" and weight.weight.shape[-1] % BLOCKS[self.base][0]:
            return "Q8_0"
        return self._mixed(what, _layer(weight.node.path), weight.copies > 1)

    def _mixed(self, what: str, layer: int, expert: bool) -> str:
        if what == "head":
            return self._head()
        if self.name == "MXFP4_MOE":
            return "MXFP4" if expert else "Q8_0"
        rules = {"embedding": self._embedding, "v": self._values, "k": self._keys, "q": self._queries}
        if what in rules:
            return rules[what](layer)
        if what == "o":
            return self._output()
        return self._down(layer) if what == "down" else self._up(layer) if what in ("gate", "up") else self.base

    def _head(self) -> str:
        if self.name in (*SMALLEST, "IQ3_XXS"):
            return "Q5_K"
        return "Q8_0" if self.base in ("Q8_0", "MXFP4") else "Q6_K"

    def _embedding(self, layer: int) -> str:
        few = {**dict.fromkeys(SMALLEST, "Q2_K"), **dict.fromkeys(("IQ2_S", "IQ2_M", "IQ3_XXS"), "IQ3_S")}
        return (few | {"TQ1_0": "Q4_K", "TQ2_0": "Q4_K"}).get(self.name, self.base)

    def _values(self, layer: int) -> str:
        i, shared = self.values.index(layer), self.group >= 4
        if self.name in SMALLEST:
            small = "IQ3_S" if self.name in ("IQ2_S", "IQ2_M") else "Q2_K"
            return "Q4_K" if shared or self.experts >= 4 else small
        if self.experts == 8:
            return "Q8_0"
        kind = {
            "Q2_K": "Q4_K" if shared else "Q3_K",
            "Q2_K_S": "Q4_K" if shared else self.base,
            "IQ3_XXS": "Q4_K" if shared else "IQ3_XXS",
            "IQ3_XS": "Q4_K" if shared else self.base,
            "IQ3_S": "Q4_K" if shared else self.base,
            "IQ3_M": "Q4_K",
            "Q3_K_M": "Q5_K" if i < 2 else "Q4_K",
            "Q3_K_L": "Q5_K",
            "IQ4_NL": "Q5_K" if shared else self.base,
            "IQ4_XS": "Q5_K" if shared else self.base,
            "Q4_K_S": "Q5_K" if i < 4 else self.base,
            "Q4_K_M": "Q6_K" if _more(i, len(self.values)) else self.base,
            "Q5_K_M": "Q6_K" if _more(i, len(self.values)) else self.base,
        }.get(self.name, self.base)
        return "Q5_K" if self.seventy and kind in ("Q3_K", "Q4_K") else kind

    def _keys(self, layer: int) -> str:
        if self.experts == 8:
            return "Q4_K" if self.name in SMALLEST else "Q8_0"
        return self._queries(layer)

    def _queries(self, layer: int) -> str:
        return {"IQ3_XS": "IQ3_XXS", "IQ3_XXS": "IQ2_S"}.get(self.name, self.base)

    def _output(self) -> str:
        if self.experts == 8:
            plain = ("Q2_K_S", "Q3_K_L", "Q5_K_S", "Q5_K_M")
            return self.base if self.name in plain or not self.name.endswith(("K", "S", "M", "XS", "NL")) else "Q5_K"
        return {
            "IQ1_S": "IQ2_XXS",
            "IQ1_M": "IQ2_XXS",
            "IQ2_S": "IQ3_S",
            "IQ2_M": "IQ3_S",
            "IQ3_XXS": "IQ3_S",
            "Q2_K": "Q3_K",
            "Q3_K_M": "Q4_K",
            "Q3_K_L": "Q5_K",
            "IQ3_M": "Q4_K",
        }.get(self.name, self.base)

    def _down(self, layer: int) -> str:
        first, sixteenth, more = layer < self.layers // 8, layer < self.layers // 16, _more(layer, self.layers)
        if self.name in SMALLEST:
            return ("IQ3_S" if self.name in ("IQ2_S", "IQ2_M") else "Q2_K") if first else self.base
        return {
            "Q2_K": "Q3_K",
            "Q2_K_S": "Q4_K" if first else self.base,
            "Q3_K_M": "Q5_K" if sixteenth else "Q4_K",
            "IQ3_M": "Q4_K" if first or (self.experts == 8 and more) else self.base,
            "Q3_K_L": "Q5_K",
            "Q4_K_M": "Q6_K" if more else self.base,
            "Q5_K_M": "Q6_K" if more else self.base,
            **dict.fromkeys(("Q4_K_S", "IQ4_NL", "IQ4_XS"), "Q5_K" if first else self.base),
        }.get(self.name, self.base)

    def _up(self, layer: int) -> str:
        middle = self.layers // 8 <= layer < 7 * self.layers // 8
        return "IQ3_XXS" if self.name == "IQ3_XS" and middle else self.base


def mixture(name: str, arch: Decoder) -> Mixture | None:
    """The file type of this name (any case) for `arch`, None if there is none."""
    upper = name.upper()
    pure = upper.endswith("-PURE")
    upper = upper.removesuffix("-PURE")
    base = upper if pure and upper in KINDS else MIXTURES.get(SHORT.get(upper, upper))
    if base is None:
        return None
    nodes = list(walk(arch, arch.width))
    group = max((_group(node) for node in nodes if "q" in node.spec.quantized), default=1)
    experts = [axis.count for node in nodes for axis in node.copies if axis.cut == "experts"]
    return Mixture(
        name=SHORT.get(upper, upper),
        base=base,
        pure=pure,
        layers=len(arch.layers),
        values=tuple(_layer(node.path) for node in nodes if node.spec.quantized.get("v")),
        group=group,
        experts=max(experts, default=1),
        seventy=len(arch.layers) == 80 and group > 1 and arch.family == "llama",
    )


def role(weight: Counted) -> str | None:
    """What llama.cpp's rules call a tensor, None for what they leave in float32: whatever is not a matrix, routers,
    short convolutions and positions."""
    if len(weight.weight.shape) != 2:
        return None
    name = weight.name.removesuffix(".weight")
    other = "embedding" if weight.weight.role == "table" else "other"
    return weight.node.spec.quantized.get(name, other)


def _group(node: Node) -> int:
    """Query heads that share a key."""
    heads = node.spec.work_axis()
    axes = [axis for entry, _ in node.spec.reads(1) for dimension in entry.dimensions for axis in dimension]
    shared = [axis.count for axis in axes if axis.cut == "kv_heads"]
    return heads.count // min(shared) if heads and shared else 1


def _row(columns: int, kind: str) -> int:
    """Bytes of a row."""
    if columns % BLOCKS[kind][0]:
        kind = NARROWER.get(kind, "F16")
    if columns % BLOCKS[kind][0]:
        kind = "F16"
    elements, size = BLOCKS[kind]
    return columns // elements * size


def _more(i: int, n: int) -> bool:
    """The first and last eighth, and every third between, are given more bits."""
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


def _layer(path: str) -> int:
    """0 for what is in no layer."""
    _, _, rest = path.partition("layers.")
    number = rest.partition(".")[0]
    return int(number) if number.isdigit() else 0
