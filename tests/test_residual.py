"""The residual as a sum type, and token ids for those who read them: nouns that are not ours, from spec to logits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cases
import pytest
import torch
from interpreter import operations
from torch import Tensor

import vitruvius as vt
from vitruvius import native, nn, spec
from vitruvius.errors import NotLoweredError
from vitruvius.native import loading
from vitruvius.nn.call import Call
from vitruvius.nn.stream import Ends, Residual
from vitruvius.nn.twin import Twin, twin
from vitruvius.spec import Axis, Size, Spec, Weight

LLAMA = vt.architecture(cases.TEXT["llama"])
IDS = torch.randint(LLAMA.head.vocab, (2, 11), generator=torch.Generator().manual_seed(3))


# ------------------------------------------------------------------ hyper-connections with constant coefficients


@dataclass(frozen=True, kw_only=True)
class CopiedEnds(spec.Ends):
    """Copies of one stream, and their mean (arXiv 2409.19606 sums)."""


@dataclass(frozen=True, kw_only=True)
class HyperConnection(spec.Residual):
    """x = Σⱼ aⱼ Xⱼ; Xᵢ ← Σⱼ mᵢⱼ Xⱼ + bᵢ (layer(x) − x). Zhu et al. 2024, arXiv 2409.19606, the static part."""

    streams: Size

    def ends(self) -> CopiedEnds:
        return CopiedEnds(streams=self.streams)

    def weights(self, width: int) -> dict[str, Weight]:
        n = (Axis("streams", self.streams, cut="replicated"),)
        return {"a": Weight((n,), role="vector"), "b": Weight((n,), role="vector"), "m": Weight((n, n), role="vector")}


@twin(CopiedEnds)
class CopiedEndsTwin(Ends[CopiedEnds]):
    def widen(self, x: Tensor) -> Tensor:
        return torch.stack([x] * self.spec.streams)

    def narrow(self, x: Tensor) -> Tensor:
        return x.mean(0)


@twin(HyperConnection)
class HyperConnectionTwin(Residual[HyperConnection]):
    a: Tensor
    b: Tensor
    m: Tensor

    def read(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        read = torch.einsum("j,jbtw->btw", self.a, x)
        return read, (x, read)

    def join(self, y: Tensor, rest: tuple[Tensor, Tensor], call: Call) -> Tensor:
        x, read = rest
        return torch.einsum("ij,jbtw->ibtw", self.m, x) + self.b[:, None, None, None] * (y - read)


def mixed(arch: spec.Decoder, streams: int) -> spec.Decoder:
    return vt.replace(arch, "layers.*.around", HyperConnection(streams=streams))


def set_mixing(model: nn.Decoder, a: Tensor, b: Tensor, m: Tensor) -> None:
    with torch.no_grad():
        for layer in model.layers:
            for name, value in (("a", a), ("b", b), ("m", m)):
                getattr(layer.around, name).copy_(value)


@torch.no_grad()
def test_streams_that_stay_alike_are_the_plain_residual() -> None:
    model, plain = vt.build(mixed(LLAMA, 3), seed=0), vt.build(LLAMA, seed=0)
    plain.load_state_dict({name: x for name, x in model.state_dict().items() if ".around." not in name})
    set_mixing(model, torch.tensor([0.5, 0.2, 0.3]), torch.ones(3), torch.eye(3))
    torch.testing.assert_close(model(IDS), plain(IDS), atol=1e-5, rtol=0)
    assert [tuple(x.shape[:1]) for x in model.hidden_states(IDS)] == [(3,)] * (len(LLAMA.layers) + 1)


@torch.no_grad()
def test_what_the_streams_hold_is_what_the_equations_say() -> None:
    """Stream 0 takes what the layers add to stream 1, which nothing changes; it stays what the embedding was."""
    model = vt.build(mixed(LLAMA, 2), seed=0)
    set_mixing(model, torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]), torch.eye(2))
    first, *_, last = model.hidden_states(IDS)
    layers = [vt.build(vt.replace(LLAMA, "layers", LLAMA.layers[i : i + 1]), seed=0) for i in range(len(LLAMA.layers))]
    added = torch.zeros_like(first[0])
    for i, one in enumerate(layers):
        names = one.state_dict().keys()
        ours = {name: model.state_dict()[name.replace("layers.0.", f"layers.{i}.")] for name in names}
        one.load_state_dict(ours)
        before: list[Tensor] = []
        one.hidden(IDS, seen=before)
        added += before[-1] - before[0]
    torch.testing.assert_close(last, torch.stack([first[0] + added, first[1]]), atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_model_of_several_streams_goes_on_from_its_state() -> None:
    model = vt.build(mixed(LLAMA, 3), seed=0)
    whole = model(IDS)
    short, long = model.sequence(16), model.sequence(16)
    model.step([(long, IDS[0, :7], "none")])
    first, second = model.step([(short, IDS[1, :4], "all"), (long, IDS[0, 7:], "all")])
    torch.testing.assert_close(first, whole[1, :4], atol=1e-5, rtol=0)
    torch.testing.assert_close(second, whole[0, 7:], atol=1e-5, rtol=0)


def test_all_layers_meet_the_same_streams() -> None:
    for other in (None, HyperConnection(streams=2), spec.LayerScalar()):
        with pytest.raises(
            ValueError, match="all layers must have as many residual streams, which begin and end alike"
        ):
            vt.replace(mixed(LLAMA, 3), "layers.1.around", other)


def test_several_streams_count_and_have_a_clear_error_where_they_cannot_run() -> None:
    arch = mixed(LLAMA, 3)
    assert arch.streams == 3
    assert vt.cost(arch).parameters.total == vt.cost(LLAMA).parameters.total + len(LLAMA.layers) * (3 + 3 + 9)
    with pytest.raises(NotLoweredError, match=r"CopiedEnds \(ends\) has no native form yet"):
        loading.lowered(arch, operations(Path(native.__file__).parent / "cpp" / "plan.h"), lambda weight, role: "f32")


# ------------------------------------------------------------------ token ids


@dataclass(frozen=True, kw_only=True)
class Hashed(Spec):
    """w[token mod n] · x: the simplest hashed router (Roller et al. 2021, arXiv 2106.04426)."""

    experts: Size

    part: ClassVar[str] = "experts"
    reads_ids: ClassVar[bool] = True

    def weights(self, width: int) -> dict[str, Weight]:
        return {"factor": Weight(((Axis("experts", self.experts, cut="replicated"),),), role="vector", initial=1.0)}


@twin(Hashed)
class HashedTwin(Twin[Hashed]):
    factor: Tensor

    takes_call: ClassVar[bool] = True

    def forward(self, x: Tensor, call: Call) -> Tensor:
        assert call.ids is not None
        return x * self.factor[call.ids % self.spec.experts][..., None]


FACTORS = torch.tensor([0.5, -1.0, 2.0])


def hashed() -> nn.Decoder:
    model = vt.build(vt.replace(LLAMA, "layers.*.mlp.body", Hashed(experts=3)), seed=0)
    with torch.no_grad():
        for layer in model.layers:
            layer.mlp.body.factor.copy_(FACTORS)
    return model


@torch.no_grad()
def test_a_part_that_reads_token_ids_gets_them() -> None:
    """Texts of one expert's tokens pass through a model of that expert only."""
    model = hashed()
    for expert, factor in enumerate(FACTORS.tolist()):
        plain = vt.build(vt.replace(LLAMA, "layers.*.mlp.body", spec.Scale(factor=factor)), seed=0)
        plain.load_state_dict({name: x for name, x in model.state_dict().items() if not name.endswith("factor")})
        ids = IDS // 3 * 3 - 3 + expert
        ids = ids.clamp(min=expert)
        torch.testing.assert_close(model(ids), plain(ids), atol=1e-5, rtol=0)


@torch.no_grad()
def test_ids_are_those_of_each_sequence_in_any_company() -> None:
    model = hashed()
    whole = model(IDS)
    a, b = model.sequence(16), model.sequence(16)
    model.step([(a, IDS[0, :3], "none")])
    first, second = model.step([(b, IDS[1], "all"), (a, IDS[0, 3:8], "all")])
    torch.testing.assert_close(first, whole[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(second, whole[0, 3:8], atol=1e-5, rtol=0)


def test_embeddings_cannot_stand_for_ids_that_are_read() -> None:
    model = hashed()
    with pytest.raises(vt.InputError, match=r"the layers of .* read token ids: give input_ids$"):
        model(inputs_embeds=torch.zeros(1, 2, model.width))
