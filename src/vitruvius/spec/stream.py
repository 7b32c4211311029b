"""What surrounds layers: several residual streams, a low-rank residual, an input of its own for each layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from .base import Axis, Part, Size, Spec, Weight, linear, slots, vector, width_axis
from .feedforward import Activation
from .norm import RMSNorm


@dataclass(frozen=True, kw_only=True)
class PerLayerTable(Spec):
    """A row of `dim` channels for each token and each of `layers` layers.

    It is only looked up, `layers` · `dim` numbers for a token, so it may live on slower memory than the matrices do
    (Gemma 3n keeps it beside the CPU or in flash: ai.google.dev/gemma/docs/gemma-3n, "PLE caching").
    """

    vocab: Size
    layers: Size
    dim: Size

    part: ClassVar[str] = "per-layer embeddings"

    def weights(self, width: int) -> dict[str, Weight]:
        rows = (Axis("layers", self.layers, self.dim, cut="replicated"),)
        return {"weight": Weight(((Axis("vocab", self.vocab, cut="vocabulary"),), rows), role="table")}


@dataclass(frozen=True, kw_only=True)
class PerLayerEmbedding(Spec):
    """An input of its own for each layer: (norm(projection(x) / √W) + √dim · table[token]) / √2, with x the token's
    embedding. Tokens that the table does not have look up its row 0. Gemma 3n (transformers,
    models/gemma3n/modeling_gemma3n.py, Gemma3nTextModel)."""

    table: PerLayerTable
    norm: RMSNorm

    reads_ids: ClassVar[bool] = True
    part: ClassVar[str] = "per-layer inputs"
    spelling: ClassVar[Mapping[str, str]] = {
        "table": "embed_tokens_per_layer",
        "projection": "per_layer_model_projection",
        "norm": "per_layer_projection_norm",
    }

    def parts(self, width: int) -> dict[str, Part]:
        return slots(width, table=self.table) | slots(self.table.dim, norm=self.norm)

    def weights(self, width: int) -> dict[str, Weight]:
        return linear(
            "projection", (Axis("layers", self.table.layers, self.table.dim, cut="replicated"),), width_axis(width)
        )


@dataclass(frozen=True, kw_only=True)
class PerLayerInput(Spec):
    """norm(projection(act(gate(x)) · e)), with e the layer's own input of `dim` channels (see PerLayerEmbedding)."""

    dim: Size
    act: Activation
    norm: RMSNorm

    part: ClassVar[str] = "per-layer inputs"
    mixes: ClassVar[bool] = True
    spelling: ClassVar[Mapping[str, str]] = {
        "gate": "per_layer_input_gate",
        "projection": "per_layer_projection",
        "norm": "post_per_layer_input_norm",
    }
    gguf_spelling: ClassVar[Mapping[str, str]] = {"gate": "inp_gate", "projection": "proj", "norm": "post_norm"}

    def parts(self, width: int) -> dict[str, Part]:
        return slots(width, norm=self.norm)

    def weights(self, width: int) -> dict[str, Weight]:
        stream, inside = width_axis(width), (Axis("layer_input", self.dim, cut="replicated"),)
        return linear("gate", inside, stream) | linear("projection", stream, inside)


@dataclass(frozen=True, kw_only=True)
class Laurel(Spec):
    """x + norm(right(left(x))), through `rank` channels: a learned augmented residual (LAuReL-LR). Menghani et al.
    2024, arXiv 2411.07501."""

    rank: Size
    norm: RMSNorm

    part: ClassVar[str] = "laurel"
    spelling: ClassVar[Mapping[str, str]] = {
        "left": "linear_left",
        "right": "linear_right",
        "norm": "post_laurel_norm",
    }
    gguf_spelling: ClassVar[Mapping[str, str]] = {"left": "laurel_l", "right": "laurel_r", "norm": "laurel_post_norm"}

    def parts(self, width: int) -> dict[str, Part]:
        return slots(width, norm=self.norm)

    def weights(self, width: int) -> dict[str, Weight]:
        stream, low = width_axis(width), (Axis("rank", 1, self.rank, cut="replicated"),)
        return linear("left", low, stream) | linear("right", stream, low)


@dataclass(frozen=True, kw_only=True)
class Ends(Spec):
    """Where one residual stream is widened to `streams`, before the first layer, and these are narrowed to one, after
    the last."""

    streams: Size


@dataclass(frozen=True, kw_only=True)
class Residual(Spec):
    """How a layer meets the residual, where that is not one plain stream: the layer reads what its branches work on
    from the streams, and joins to them what these make of it. The twin states both equations."""

    def ends(self) -> Ends | None:
        """Where the streams begin and end; None where there is one."""
        return None


@dataclass(frozen=True, kw_only=True)
class AltUp(Residual):
    """Alternating updates: `streams` residual streams, of which the layer computes on the `active` one only. Baykal et
    al. 2023, arXiv 2301.13310, section 3.

    Every stream is predicted from all of them; the layer runs on the active prediction; what it gives beyond that
    prediction corrects every stream. The coefficients are linear in tanh(router(norm(x) / W)), with x the active stream
    for the prediction, the layer's output for the correction. Gemma 3n then adds the per-layer input `inject`, of the
    active stream (times a learned scale, if `scaled`), to every stream but the first.

    Weighing the streams against each other is elementwise work, which is not counted.
    """

    streams: Size
    active: int
    norm: RMSNorm
    scaled: bool
    inject: PerLayerInput

    part: ClassVar[str] = "altup"
    spelling: ClassVar[Mapping[str, str]] = {
        "norm": "router_norm",
        "router": "modality_router",
        "predict": "prediction_coefs",
        "correct": "correction_coefs",
        "scale": "correct_output_scale",
    }
    gguf_spelling: ClassVar[Mapping[str, str]] = {
        "norm": "altup_router_norm",
        "router": "altup_router",
        "predict": "altup_predict_coef",
        "correct": "altup_correct_coef",
        "scale": "altup_correct_scale.weight",
        "inject": "",
    }

    def ends(self) -> AltUpEnds:
        return AltUpEnds(streams=self.streams)

    def check(self) -> None:
        if not 0 <= self.active < self.streams:
            raise ValueError(f"the active stream is one of 0 to {self.streams - 1}, not {self.active}")

    def parts(self, width: int) -> dict[str, Part]:
        return slots(width, norm=self.norm, inject=self.inject)

    def weights(self, width: int) -> dict[str, Weight]:
        n = (Axis("streams", self.streams, cut="replicated"),)
        weights = {"router.weight": Weight((n, width_axis(width)), uses=2.0)}
        weights |= linear("predict", (Axis("streams", self.streams, self.streams, cut="replicated"),), n) | linear(
            "correct", n, n
        )
        return weights | ({"scale": vector(width_axis(width), initial=0.0)} if self.scaled else {})


@dataclass(frozen=True, kw_only=True)
class AltUpEnds(Ends):
    """One stream becomes `streams` before the first layer, and one again after the last: each further stream is a
    projection with the root mean square of the first; in the end all are projected back so, and averaged. Gemma 3n."""

    part: ClassVar[str] = "altup"
    spelling: ClassVar[Mapping[str, str]] = {"spread": "altup_projections", "merge": "altup_unembed_projections"}

    def weights(self, width: int) -> dict[str, Weight]:
        names = [f"{way}.{i}" for way in ("spread", "merge") for i in range(self.streams - 1)]
        return {key: weight for n in names for key, weight in linear(n, width_axis(width), width_axis(width)).items()}


@dataclass(frozen=True, kw_only=True)
class LayerScalar(Residual):
    """The whole stream times one stored number, at the end of the layer (Gemma 4, which does not count it)."""

    spelling: ClassVar[Mapping[str, str]] = {"scalar": "layer_scalar"}
    gguf_spelling: ClassVar[Mapping[str, str]] = {"scalar": "layer_output_scale.weight"}

    def weights(self, width: int) -> dict[str, Weight]:
        return {"scalar": Weight(((Axis("scalar", 1, cut="replicated"),),), role="constant", initial=1.0)}
