"""Drafts of the layers for multi-token prediction: whatever a sequence went through, they are what the modules say of
the whole text; and they leave no trace."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from drafting import MODELS, expected, model_of

import vitruvius as vt
from vitruvius import nn
from vitruvius.spec import DRAFTS

BY_MODEL = pytest.mark.parametrize("name", MODELS)
LENGTH, CAPACITY, LEAST = 26, 30, 1e-3  # a draft by less than this may be decided by rounding


def text_of(model: nn.Decoder, seed: str, length: int = LENGTH) -> list[int]:
    choose = random.Random(seed)
    return [choose.randrange(model.spec.embedding.vocab) for _ in range(length)]


def sample(model: nn.Decoder, name: str) -> dict[int, list[int]]:
    """Length -> the draft of four tokens after as many tokens of a text, where rounding does not decide it."""
    text = text_of(model, name)
    drafts = {length: expected(model, text[: length + 1], 4) for length in (1, 2, 3, 9, 13, 25)}
    return {length: draft for length, (draft, closest) in drafts.items() if closest > LEAST}


@BY_MODEL
@torch.no_grad()
def test_drafts_are_what_the_modules_say_of_the_whole_text(name: str) -> None:
    """In any chunks, after any forks, rewinds and drafts."""
    model = model_of(name)
    text, wanted, choose = text_of(model, name), sample(model, name), random.Random(name)
    assert len(wanted) > 3
    modules, found = len(model.spec.mtp), 0
    for length, draft in wanted.items():
        for k in range(min(modules, 4)):
            ids = torch.tensor([text[: length + 1] + draft[:k]])
            if model.ahead(ids)[k].shape[1]:
                assert int(model.ahead(ids)[k][0, -1].argmax()) == draft[k]
    live: list[Any] = [model.sequence(CAPACITY, choose.choice([0, LENGTH]), draft=True)]
    for _ in range(30):
        sequence = choose.choice(live)
        match choose.choice(["step", "step", "step", "rewind", "fork", "snapshot", "leave", "join"]):
            case "step":
                others = [s for s in choose.sample(live, choose.randint(0, len(live) - 1)) if s is not sequence]
                going = [s for s in (sequence, *others) if s.length < LENGTH - 1]
                ends = [choose.choice([n for n in (*wanted, LENGTH - 1) if n > s.length]) for s in going]
                model.step([(s, text[s.length : end], "none") for s, end in zip(going, ends, strict=True)])
            case "rewind":
                sequence.rewind(sequence.reach(choose.choice([0, *wanted])))
            case "fork" if len(live) < 5:
                live.append(sequence.fork())
            case "snapshot":
                sequence.snapshot()
            case "leave" if len(live) > 1:
                live.remove(sequence)
            case "join" if len(live) < 5:
                live.append(model.sequence(CAPACITY, choose.choice([0, LENGTH]), draft=True))
        asked = [s for s in live if s.length in wanted]
        count = choose.randint(1, 4)
        for s, draft in zip(asked, model.draft([(s, text[s.length]) for s in asked], count), strict=True):
            assert draft == wanted[s.length][:count]
            assert s.reach(s.length) == s.length
            found += 1
    assert found > 9


@BY_MODEL
@torch.no_grad()
def test_logits_are_those_of_a_sequence_that_does_not_draft(name: str) -> None:
    """Step, draft, check all at once, go back to what was right: as speculation does it."""
    model = model_of(name)
    text = text_of(model, name)
    plain, drafting = model.sequence(CAPACITY), model.sequence(CAPACITY, draft=True)
    for s in (plain, drafting):
        model.step([(s, text[:6], "none")])
    for right in (0, 2, 1, 3, 0, 2):
        at = plain.length
        (draft,) = model.draft([(drafting, text[at])], 3)
        guess = [*text[at + 1 : at + 1 + right], *draft[right:]]
        drafting.snapshot()
        (got,) = model.step([(drafting, [text[at], *guess], "all")])
        (wanted,) = model.step([(plain, text[at : at + 1 + right], "all")])
        assert float((got[: 1 + right] - wanted).abs().max()) < 2e-4
        if right < 3:
            drafting.rewind(drafting.reach(at + 1 + right))
        model.step([(drafting, text[drafting.length : plain.length], "none")] * (drafting.length < plain.length))
        assert drafting.length == plain.length


@BY_MODEL
@torch.no_grad()
def test_the_state_takes_the_bytes_that_cost_says(name: str) -> None:
    model = model_of(name)
    for context in (3, LENGTH, 80):
        state = model.new_state(2, context, draft=True)
        model(torch.tensor([text_of(model, "a", context), text_of(model, "b", context)]), state)
        found = vt.cost(model.spec, context, 2, "f32", draft=True)
        held = sum(tensor.untyped_storage().nbytes() for tensor in state.tensors)
        assert held == state.nbytes == found.state.policies["vitruvius"]
        without = vt.cost(model.spec, context, 2, "f32")
        parts = dict(found.state.by_part)
        assert parts.pop("mtp") == found.state.bytes - without.state.bytes > 0
        assert parts == without.state.by_part
        assert found.state.policies["minimum"] == found.state.bytes
        assert found.memory.weights_bytes == without.memory.weights_bytes + found.memory.mtp_bytes


def test_what_engines_keep_where_a_module_drafts() -> None:
    """DeepSeek V3's one module has a latent of 512 and a rotary key of 64 for each token, as its layers have; of the
    hidden states, 7,168 wide, the last one and that before it, which engines do not count as state."""
    arch, context = vt.architecture("deepseek-v3"), 32_768
    found, without = (vt.cost(arch, context, dtype="bf16", draft=draft).state for draft in (True, False))
    layer, hidden = 2 * context * 576, 2 * 7168
    assert found.bytes - without.bytes == layer + 2 * hidden
    assert found.bytes_per_token - without.bytes_per_token == 2 * 576 + hidden
    more = {name: size - without.policies[name] for name, size in found.policies.items()}
    assert more.pop("vitruvius") == layer + (2 + DRAFTS) * hidden
    assert more.pop("minimum") == layer + 2 * hidden
    assert set(more.values()) == {layer}
    with pytest.raises(vt.InputError, match="llama-3-8b has no layers for multi-token prediction"):
        vt.cost(vt.architecture("llama-3-8b"), draft=True)


@torch.no_grad()
def test_a_draft_is_counted_as_written_where_windows_go_round() -> None:
    """What it has overwritten in a window cannot be returned to."""
    model = model_of("mimo")
    text, wanted = text_of(model, "mimo"), sample(model, "mimo")
    sequence = model.sequence(60, draft=True)
    model.step([(sequence, text[:25], "none")])
    assert sequence.reach(17) == 17
    model.draft([(sequence, text[25])], DRAFTS)
    assert [sequence.reach(n) for n in (25, 24, 23, 17)] == [25, 24, 0, 0]
    assert model.draft([(sequence, text[25])], 4) == [wanted[25]]


@torch.no_grad()
def test_as_many_as_there_is_room_and_slack_for() -> None:
    model = model_of("deepseek_v3")
    for capacity, slack, length, most in ((30, 0, 5, DRAFTS), (12, 0, 5, 7), (60, 20, 5, 20), (6, 0, 6, 0)):
        sequence = model.sequence(capacity, slack, draft=True)
        model.step([(sequence, text_of(model, "a", length), "none")])
        assert [len(draft) for draft in model.draft([(sequence, 3)], 40)] == [most]


def test_what_cannot_be_drafted_is_refused_in_one_line() -> None:
    model = model_of("deepseek_v3")
    empty, plain, other = model.sequence(8, draft=True), model.sequence(8), model_of("mimo").sequence(8, draft=True)
    model.step([(plain, [1], "none")])
    model_of("mimo").step([(other, [1], "none")])
    begun = model.sequence(8, draft=True)
    model.step([(begun, [1], "none")])
    for entries, count, message in (
        ([(empty, 1)], 1, "the sequence is empty"),
        ([(plain, 1)], 1, "draft=True"),
        ([(other, 1)], 1, "draft=True"),
        ([(begun, 1), (begun, 2)], 1, "each sequence once"),
        ([(begun, 83)], 1, "token ids run from 0 to 82, got 83"),
        ([(begun, -1)], 1, "token ids run from 0 to 82, got -1"),
        ([(begun, 1)], 0, "at least one token, got 0"),
    ):
        with pytest.raises(vt.InputError, match=message) as caught:
            model.draft(entries, count)
        assert "\n" not in str(caught.value)
    with pytest.raises(vt.InputError, match="no layers for multi-token prediction"):
        vt.build("smollm2-135m-instruct").sequence(8, draft=True)
