"""The seam for towers: positions with several axes, embeddings in the place of ids, and a model around the decoder."""

from __future__ import annotations

from dataclasses import dataclass

import cases
import pytest
import reference
import torch
from torch import Tensor

import vitruvius as vt
from vitruvius import nn, spec
from vitruvius.errors import InputError
from vitruvius.nn.model import build
from vitruvius.nn.twin import Twin, twin
from vitruvius.spec import Axis, Model, Sections, Size, Spec, Tower, Weight, linear, width_axis

# four tokens of text, a picture of 3 × 4, five tokens of text: time, height, width
PICTURE = torch.tensor([[4] * 12, [4 + i // 4 for i in range(12)], [4 + i % 4 for i in range(12)]])
POSITIONS = torch.cat((torch.arange(4).expand(3, -1), PICTURE, torch.arange(8, 13).expand(3, -1)), 1)
TOKENS = POSITIONS.shape[1]


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])  # one section after the other, and interleaved
def seeing(request, tmp_path_factory):
    """Our text model, and transformers' logits after embeddings at the picture's positions and three tokens more."""
    import transformers

    folder = tmp_path_factory.mktemp(request.param)
    reference.make(cases.WRAPPED[request.param], folder)
    theirs = transformers.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    ours = vt.load(folder)
    generator = torch.Generator().manual_seed(5)
    embeddings = torch.randn(2, TOKENS, ours.width, generator=generator)
    following = torch.randint(3, 30, (2, 3), generator=generator)
    inputs = torch.cat((embeddings, theirs.get_input_embeddings()(following)), 1)
    places = torch.cat((POSITIONS, torch.arange(13, 16).expand(3, -1)), 1)[:, None].expand(-1, 2, -1)
    with torch.no_grad():
        hidden = theirs.model.language_model(inputs_embeds=inputs, position_ids=places).last_hidden_state
        return ours, embeddings, following, theirs.lm_head(hidden)


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=0)


def test_positions_with_axes_equal_transformers(seeing):
    ours, embeddings, _, theirs = seeing
    places = POSITIONS[:, None].expand(-1, 2, -1)
    with torch.no_grad():
        close(ours(inputs_embeds=embeddings, positions=places), theirs[:, :TOKENS])
        in_order = ours(inputs_embeds=embeddings)
    assert (in_order - theirs[:, :TOKENS]).abs().max() > 0.01  # the picture's place is not its order


@pytest.mark.parametrize("cut", [3, 9, 16])
def test_text_after_a_picture_goes_on_from_its_last_place(seeing, cut):
    ours, embeddings, following, theirs = seeing
    places = POSITIONS[:, None].expand(-1, 2, -1)
    state = ours.new_state(batch=2, capacity=40)
    with torch.no_grad():
        first = ours(inputs_embeds=embeddings[:, :cut], state=state, positions=places[..., :cut])
        second = ours(inputs_embeds=embeddings[:, cut:], state=state, positions=places[..., cut:])
        rest = [ours(following[:, i : i + 1], state) for i in range(3)]
    close(torch.cat((first, second, *rest), 1), theirs)


def test_sequences_with_pictures_beside_others(seeing):
    """Steps of embeddings and of ids together; forks and rewinds know from where on the places are shifted."""
    ours, embeddings, following, theirs = seeing
    s, t = ours.sequence(40), ours.sequence(40)
    text = torch.arange(3, 10)
    with torch.no_grad():
        alone = ours(text[None])[0]
        seen = nn.Embedded(embeddings[0], POSITIONS)
        first, beside = ours.step([(s, seen, "all"), (t, text, "all")])
        close(torch.as_tensor(first), theirs[0, :TOKENS])
        close(torch.as_tensor(beside), alone)
        fork = s.fork()
        (out,) = ours.step([(fork, following[0], "all")])
        close(out, theirs[0, TOKENS:])
        fork.rewind(TOKENS + 1)
        out, _ = ours.step([(fork, following[0, 1:], "all"), (t, text[:1], "none")])
        close(out, theirs[0, TOKENS + 1 :])
        fork.rewind(4)  # before the picture: nothing is shifted any more
        assert (s.shift, fork.shift) == (13 - TOKENS, 0)
        (out,) = ours.step([(fork, nn.Embedded(embeddings[0, 4:], POSITIONS[:, 4:]), "last")])
        close(out, theirs[0, TOKENS - 1 : TOKENS])


def test_which_pair_turns_by_which_axis():
    assert Sections(sizes=(2, 1, 3)).axes() == (0, 0, 1, 2, 2, 2)
    assert Sections(sizes=(4, 2, 2), interleaved=True).axes() == (0, 1, 2, 0, 1, 2, 0, 0)
    with pytest.raises(ValueError, match="4 pairs of channels"):
        spec.RoPE(theta=100.0, dim=8, sections=Sections(sizes=(2, 1)))


# ------------------------------------------------------------------ a tower of our own


@dataclass(frozen=True, kw_only=True)
class Patches(Spec):
    """W x, for each patch of a picture."""

    patch: Size

    def weights(self, width: int) -> dict[str, Weight]:
        return linear("project", width_axis(width), (Axis("patch", self.patch, cut="replicated"),), bias=True)


@twin(Patches)
class PatchesTwin(Twin[Patches]):
    """(N, patch) -> (N, W)."""

    def forward(self, patches: Tensor) -> Tensor:
        return self.project(patches)


TEXT = vt.architecture(cases.TEXT["llama"])
SEEING = Model(name="seeing llama", towers=(Tower(name="vision", placeholder=7, body=Patches(patch=6)),), decoder=TEXT)


def test_a_tower_takes_the_places_of_its_tokens():
    model = build(SEEING, seed=3)
    assert sum(p.numel() for p in model.parameters()) == vt.cost(TEXT).parameters.total + TEXT.width * 7
    ids = torch.tensor([[4, 7, 7, 9, 5], [7, 3, 8, 6, 4]])
    patches = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        embeddings = model.decoder.embed(ids)
        embeddings[ids == 7] = patches @ model.vision.body.project.weight.T + model.vision.body.project.bias
        wanted = model.decoder(inputs_embeds=embeddings)
        torch.testing.assert_close(model(ids, {"vision": patches}), wanted)
        assert (model(ids) - wanted).abs().max() > 1e-3  # without a picture the tokens are themselves
        torch.testing.assert_close(model(ids), model.decoder(ids))
        state = model.decoder.new_state(batch=2, capacity=8)
        torch.testing.assert_close(model(ids[:, :4], {"vision": patches}, state)[:, -1], wanted[:, 3])
        torch.testing.assert_close(model.decoder(ids[:, 4:], state)[:, -1], wanted[:, 4], atol=1e-5, rtol=0)


def test_what_does_not_fit_is_said():
    model = build(SEEING)
    ids = torch.tensor([[4, 7, 5]])
    with pytest.raises(InputError, match="gives 2 embeddings for 1 tokens"):
        model(ids, {"vision": torch.zeros(2, 6)})
    with pytest.raises(InputError, match="no tower 'audio', only vision"):
        model(ids, {"audio": torch.zeros(1, 6)})
    with pytest.raises(InputError, match="positions with 1 axes, got 3"):
        model(ids, positions=torch.zeros(3, 1, 3, dtype=torch.long))
    with pytest.raises(InputError, match=r"integers \(axes, 1, 3\)"):
        model(ids, positions=torch.zeros(1, 1, 4, dtype=torch.long))
    with pytest.raises(InputError, match="embeddings are"):
        model.decoder.step([(model.decoder.sequence(8), nn.Embedded(torch.zeros(3)), "last")])
    with pytest.raises(ValueError, match="names of their own"):
        Model(name="two", towers=SEEING.towers * 2, decoder=TEXT)
    with pytest.raises(ValueError, match="an attribute may have"):
        Tower(name="decoder", placeholder=7, body=Patches(patch=6))
