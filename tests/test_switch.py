"""Switch Transformer: an encoder and a decoder, against transformers; and GLaM's figures, which have no reference.

The checks that `test_architectures.py` makes of every decoder are made here of models that have an encoder too.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from reference import offline, randomize
from safetensors.torch import load_file, save_file
from test_architectures import assert_bijection, assert_close, assert_equal_bytes, count, held, in_files, kind
from torch import Tensor, nn
from torch.nn import functional as F

import vitruvius as vt
from vitruvius import catalog
from vitruvius.architectures import family_of
from vitruvius.inference.generation import Session
from vitruvius.nn import Decoder, Needs
from vitruvius.nn.call import whole_call
from vitruvius.nn.feedforward import Router, taken
from vitruvius.nn.model import skeleton, weights_of
from vitruvius.nn.ops import naive
from vitruvius.nn.twin import make
from vitruvius.spec import MLP, MoE, RelativeBias, RMSNorm, edit, from_json, spelled, to_json, walk
from vitruvius.spec import Router as RouterSpec

TOLERANCE = 2e-4  # against transformers, absolute, in float32; it is not to be relaxed
REPEATABLE = 3e-5  # between two ways through our own model
READ, WRITTEN = 41, 23  # tokens of the encoder and of the decoder


def switch(**keys: Any) -> dict[str, Any]:
    sizes = {
        "vocab_size": 83,
        "d_model": 44,
        "d_kv": 10,
        "d_ff": 58,
        "num_heads": 3,
        "num_layers": 4,
        "num_decoder_layers": 4,
        "num_experts": 5,
        "expert_capacity": 64,
        "num_sparse_encoder_layers": 2,
        "num_sparse_decoder_layers": 2,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 20,
        "layer_norm_epsilon": 4e-3,
    }
    return {"model_type": "switch_transformers", "decoder_start_token_id": 0, **sizes, **keys}


CONFIGS = {
    "tied": switch(),
    "untied": switch(tie_word_embeddings=False, num_decoder_layers=2, num_sparse_decoder_layers=1, num_heads=5),
    "steps": switch(encoder_sparse_step=3, decoder_sparse_step=1, num_layers=5, num_decoder_layers=3, router_bias=True),
    "no_number": switch(num_sparse_encoder_layers=0, num_sparse_decoder_layers=5, num_decoder_layers=None),
    "dense": switch(encoder_sparse_step=0, decoder_sparse_step=0, num_layers=1, dense_act_fn="gelu_new"),
    "every_layer": switch(encoder_sparse_step=1, decoder_sparse_step=1, num_layers=3, num_decoder_layers=3),
    "far": switch(relative_attention_num_buckets=6, relative_attention_max_distance=9, dense_act_fn="gelu"),
    "gated": switch(dense_act_fn="gated-gelu", tie_word_embeddings=False),
}
TIGHT = {
    "capacity": switch(expert_capacity=4, router_bias=True),
    "no_capacity": switch(expert_capacity=0, encoder_sparse_step=1, decoder_sparse_step=1),
}
BY_CASE = pytest.mark.parametrize("case", CASES := CONFIGS | TIGHT)
BY_ROOMY_CASE = pytest.mark.parametrize("case", CONFIGS)

Folder = Callable[[str], Path]


def theirs(config: dict[str, Any]) -> nn.Module:
    """transformers' model. It has no gated layers for Switch: those are T5's."""
    from transformers import SwitchTransformersConfig, SwitchTransformersForConditionalGeneration
    from transformers.models.switch_transformers.modeling_switch_transformers import SwitchTransformersDenseActDense
    from transformers.models.t5.modeling_t5 import T5DenseGatedActDense

    values = {key: value for key, value in config.items() if key not in ("model_type", "architectures")}
    gated = values.get("dense_act_fn") == "gated-gelu"
    made = SwitchTransformersConfig(**values | ({"dense_act_fn": "gelu_new"} if gated else {}))
    made._attn_implementation = "eager"
    model: nn.Module = SwitchTransformersForConditionalGeneration(made)
    if gated:
        plain = [path for path, module in model.named_modules() if isinstance(module, SwitchTransformersDenseActDense)]
        for path in plain:
            model.set_submodule(path, T5DenseGatedActDense(made))
        made.dense_act_fn = "gated-gelu"
    return model.float().eval()


@cache
def reference(case: str) -> nn.Module:
    """transformers' model of that case, everything in it random."""
    with offline():
        model = theirs(CASES[case])
    randomize(model, torch.Generator().manual_seed(sum(map(ord, case))), gain=1.4)
    for name, parameter in model.named_parameters():
        if name.endswith(("SelfAttention.q.weight", "EncDecAttention.q.weight")):
            parameter.data /= CASES[case]["d_kv"] ** 0.5  # the scores are not scaled
        if name.endswith("embed_tokens.weight") or name == "shared.weight":
            parameter.data *= 4.0
    return model


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Case -> checkpoint as transformers writes it, written once."""

    @cache
    def write(case: str) -> Path:
        path = tmp_path_factory.mktemp("switch") / case
        with offline():
            reference(case).save_pretrained(path)
        return path

    return write


@pytest.fixture
def ours(folder: Folder) -> Callable[[str], Decoder]:
    return lambda case: vt.load(folder(case))


def ids(length: int, seed: int = 0, batch: int = 2, vocab: int = 83) -> Tensor:
    return torch.randint(vocab, (batch, length), generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------ transformers


@BY_CASE
@torch.no_grad()
def test_logits_and_every_hidden_state_equal_those_of_transformers(case: str, ours: Any) -> None:
    model, read, written = ours(case), ids(READ), ids(WRITTEN, 1)
    expected = reference(case)(input_ids=read, decoder_input_ids=written, use_cache=False, output_hidden_states=True)
    assert 0.3 < float(expected.logits.std()) < 30, "the comparison must mean something"
    encoded = model.encode(read)
    assert_close(encoded.parts[0], expected.encoder_last_hidden_state, TOLERANCE, "the encoder")
    hidden = model.hidden_states(written, encoded)
    assert len(hidden) == len(expected.decoder_hidden_states)
    for i, (got, wanted) in enumerate(zip(hidden, expected.decoder_hidden_states, strict=True)):
        assert_close(got, wanted, TOLERANCE * max(1.0, float(wanted.abs().max())), f"after {i} layers")
    assert_close(model(read, decoder_input_ids=written), expected.logits, TOLERANCE, "logits")


@BY_CASE
@torch.no_grad()
def test_one_token_at_a_time_equals_transformers_cached(case: str, ours: Any) -> None:
    """Here capacity never turns a token of the decoder away: it counts the tokens of one call."""
    model, read, written = ours(case), ids(READ), ids(WRITTEN, 1)
    state, cache = model.new_state(2, WRITTEN, encoder_capacity=READ), None
    encoder = reference(case).get_encoder()(input_ids=read)
    for i, new in enumerate(written.split(1, 1)):
        theirs = reference(case)(encoder_outputs=encoder, decoder_input_ids=new, past_key_values=cache, use_cache=True)
        cache = theirs.past_key_values
        got = model(None if i else read, state=state, decoder_input_ids=new)
        assert_close(got, theirs.logits, TOLERANCE, f"token {i}")


@BY_CASE
@torch.no_grad()
def test_padding_of_the_encoder_is_not_seen(case: str, ours: Any) -> None:
    model, read, written = ours(case), ids(READ, batch=3), ids(WRITTEN, 1, batch=3)
    lengths = torch.tensor([17, READ - 3, 1])
    mask = (torch.arange(READ) < lengths[:, None]).long()
    expected = reference(case)(input_ids=read, attention_mask=mask, decoder_input_ids=written, use_cache=False).logits
    got = model(read, lengths=lengths, decoder_input_ids=written)
    assert_close(got, expected, TOLERANCE, "against transformers")
    for row, length in enumerate(lengths.tolist()):
        alone = model(read[row : row + 1, :length], decoder_input_ids=written[row : row + 1])
        assert_close(got[row], alone[0], REPEATABLE, f"row {row}")


@BY_CASE
@torch.no_grad()
def test_transformers_reads_what_is_saved(case: str, tmp_path: Path) -> None:
    model = vt.build(CASES[case], seed=4)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)), alpha=0.2)
    vt.save(model, tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    with offline():
        loaded = theirs(CASES[case])
    missing = loaded.load_state_dict(stored, strict=False).missing_keys
    tied = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"}
    assert set(missing) <= (tied if CASES[case].get("tie_word_embeddings", True) else {"shared.weight"})
    expected = loaded(input_ids=ids(READ), decoder_input_ids=ids(WRITTEN, 1), use_cache=False).logits
    assert_close(model(ids(READ), decoder_input_ids=ids(WRITTEN, 1)), expected, TOLERANCE, case)


@pytest.mark.parametrize("buckets", [2, 4, 8, 12, 32, 33])
@pytest.mark.parametrize("distance", [9, 20, 128])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_every_distance_has_the_row_that_t5_gives_it(buckets: int, distance: int, bidirectional: bool) -> None:
    from transformers.models.t5.modeling_t5 import T5Attention

    if not 1 <= buckets // (4 if bidirectional else 2) < distance:
        with pytest.raises(ValueError, match="buckets of relative positions cannot reach to a distance of"):
            RelativeBias(buckets=buckets, max_distance=distance, bidirectional=bidirectional)
        return
    bias = make(RelativeBias(buckets=buckets, max_distance=distance, bidirectional=bidirectional), 3)
    away = torch.arange(-4 * distance, 4 * distance)
    expected = T5Attention._relative_position_bucket(away, bidirectional, buckets, distance)
    assert bias.bucket(away).tolist() == expected.tolist()


# ------------------------------------------------------------------ the state


@pytest.mark.parametrize("seed", range(4))
@BY_ROOMY_CASE
@torch.no_grad()
def test_any_chunking_and_rewinding_equals_one_call(case: str, seed: int, ours: Any) -> None:
    model, choose = ours(case), random.Random(f"{case} {seed}")
    read, written = ids(READ, seed), ids(WRITTEN, seed + 1)
    expected = model(read, decoder_input_ids=written)
    state = model.new_state(2, WRITTEN, encoder_capacity=READ + choose.choice([0, 5]))
    begun = False
    for _ in range(3):
        while (at := state.length) < WRITTEN:
            new = written[:, at : at + choose.choice([1, 1, 2, 7, WRITTEN])]
            got = model(None if begun else read, state=state, decoder_input_ids=new)
            begun = True
            assert_close(got, expected[:, at : at + new.shape[1]], REPEATABLE, f"{new.shape[1]} tokens at {at}")
        back = choose.randint(0, WRITTEN)
        assert state.reach(back) == back
        state.rewind(back)  # what the encoder has read stays


@BY_ROOMY_CASE
@torch.no_grad()
def test_rows_of_different_lengths_equal_each_on_its_own(case: str, ours: Any) -> None:
    """On both sides: padded texts for the encoder, and padded chunks for the decoder."""
    model, read, written = ours(case), ids(READ, batch=3), ids(WRITTEN, 1, batch=3)
    lengths = [READ, 6, 20]
    expected = [
        model(read[row : row + 1, :length], decoder_input_ids=written[row : row + 1])[0]
        for row, length in enumerate(lengths)
    ]
    state, done, begun = model.new_state(3, WRITTEN, encoder_capacity=READ), [0, 0, 0], False
    for counts in ([4, 1, 2], [1, 1, 1], [2, 7, 3], [1, 1, 1]):
        new = torch.zeros(3, max(counts) + 1, dtype=torch.long)
        for row, size in enumerate(counts):
            new[row, :size] = written[row, done[row] : done[row] + size]
        text = {} if begun else {"input_ids": read, "lengths": torch.tensor(lengths)}
        got = model(**text, state=state, decoder_input_ids=new, decoder_lengths=torch.tensor(counts))
        for row, size in enumerate(counts):
            wanted = expected[row][done[row] : done[row] + size]
            assert_close(got[row, :size], wanted, REPEATABLE, f"row {row}, {size} tokens at {done[row]}")
            done[row] += size
        begun = True
    assert state.lengths == done
    assert [sequence.encoded for sequence in state.sequences] == lengths


@BY_CASE
@torch.no_grad()
def test_a_state_takes_the_bytes_that_cost_says(case: str, ours: Any) -> None:
    model = ours(case)
    for context in (1, 9, READ):
        expected = vt.cost(model.spec, context=context, batch=2, dtype="f32").state
        state = model.new_state(batch=2, capacity=context)
        model(ids(context), state=state, decoder_input_ids=ids(context, 1))
        assert held(state) == state.nbytes == expected.bytes == expected.policies["vitruvius"]
        decoder = 2 * 4 * 2 * len(model.spec.layers) * CASES[case]["num_heads"] * CASES[case]["d_kv"]
        assert expected.bytes == 2 * context * decoder, "as much for the encoder's tokens as for the decoder's"
        assert expected.bytes_per_token == decoder // 2, "one more token is one of the decoder's"


@torch.no_grad()
def test_what_the_encoder_has_read_is_not_projected_again(ours: Any) -> None:
    model = ours("tied")
    state = model.new_state(2, WRITTEN, encoder_capacity=READ)
    model(ids(READ), state=state, decoder_input_ids=ids(1, 1))
    again: list[str] = []
    for name, module in model.named_modules():
        if name.startswith("encoder.") or name.endswith("cross.body.kv.k"):
            module.register_forward_hook(lambda *_, name=name: again.append(name))
    model(decoder_input_ids=ids(1, 2), state=state)
    assert again == []


# ------------------------------------------------------------------ generation


@BY_ROOMY_CASE
@torch.no_grad()
def test_greedy_answers_are_those_of_full_passes_of_transformers(case: str, ours: Any) -> None:
    model, prompts = (
        ours(case),
        [row[:length].tolist() for row, length in zip(ids(READ, 3, 3), (READ, 5, 18), strict=True)],
    )
    expected = []
    for prompt in prompts:
        written = torch.zeros(1, 1, dtype=torch.long)
        for _ in range(12):
            logits = reference(case)(
                input_ids=torch.tensor([prompt]), decoder_input_ids=written, use_cache=False
            ).logits
            written = torch.cat((written, logits[:, -1:].argmax(-1)), 1)
        expected.append(written[0, 1:].tolist())
    assert vt.generate(model, prompts, max_new_tokens=12, ignore_eos=True).tolist() == expected
    session = Session(model)
    for prompt, answer in zip(prompts, expected, strict=True):
        assert list(session.stream(prompt, max_new_tokens=12, eos=())) == answer


def test_a_decoder_must_know_what_it_begins_with() -> None:
    config = switch()
    del config["decoder_start_token_id"]
    with pytest.raises(
        vt.InputError, match="decoder_start_token_id says what the decoder of switch_transformers begins"
    ):
        vt.generate(vt.build(config), [[5, 6]])


# ------------------------------------------------------------------ cost


@pytest.mark.parametrize("batch", [1, 2])
@BY_CASE
def test_prefill_takes_the_flops_that_cost_says(case: str, batch: int, ours: Any) -> None:
    model = ours(case)
    for context in (1, 5, READ):
        read, written = ids(context, batch=batch), ids(context, 1, batch=batch)
        expected = vt.cost(model.spec, context=context, batch=batch).flops
        assert count(lambda r=read, w=written: model(r, decoder_input_ids=w)) == expected.prefill


@BY_CASE
def test_one_more_token_takes_the_flops_that_cost_says(case: str, ours: Any) -> None:
    """The encoder has read as many tokens as the decoder has then."""
    model = ours(case)
    for context in (2, 7, READ):
        state = model.new_state(1, context)
        with torch.no_grad():
            model(ids(context, batch=1), state=state, decoder_input_ids=ids(context - 1, 1, batch=1))
        new = ids(1, 2, batch=1)
        expected = vt.cost(model.spec, context=context).flops.decode_per_token
        assert count(lambda s=state, n=new: model(decoder_input_ids=n, state=s)) == expected


BIASES = (RelativeBias, RMSNorm)


def elements(name: str, *kinds: type) -> int:
    """Weights of the parts of these kinds, all parts if none is named."""
    arch = vt.architecture(name)
    nodes = [node for node in walk(arch, arch.width) if isinstance(node.spec, kinds or object)]
    return sum(prod(shape) for node in nodes for _, _, shape in node.weights())


def test_totals_equal_the_recorded_ones_by_their_own_conventions() -> None:
    """Those of Switch-XXL, Switch-C and GLaM were formed from the papers' shapes and leave out what is small."""
    exact = {
        name: catalog.entry(name).exact for name in ("switch-base-8", "switch-xxl", "switch-c-2048", "glam-64b-64e")
    }
    assert elements("switch-base-8") == exact["switch-base-8"]["total"] == 619_339_008
    small = elements("switch-c-2048", *BIASES)
    assert elements("switch-c-2048") - small == exact["switch-c-2048"]["total"] == 1_571_308_810_240
    small = elements("switch-xxl", *BIASES, RouterSpec) + 32_128 * 4_096  # one table for both stacks, where we have two
    assert elements("switch-xxl") - small == exact["switch-xxl"]["total"] == 394_661_986_304
    small = elements("glam-64b-64e", *BIASES)
    assert elements("glam-64b-64e") - small == exact["glam-64b-64e"]["total"] == 1_161_755_099_136
    active = vt.cost(vt.architecture("glam-64b-64e")).parameters.active
    assert active - small == exact["glam-64b-64e"]["active"] == 96_603_209_728


@pytest.mark.parametrize("name", ["switch-base-8", "switch-xxl", "switch-c-2048"])
def test_the_hubs_names_are_a_bijection_at_full_size(name: str) -> None:
    arch = vt.architecture(name)
    entries = spelled(arch, family_of(arch).irregular(arch))
    assert_bijection(arch, entries)
    names = {name for entry in entries for name in entry.theirs}
    experts = arch.layers[1].branches[-1].body.router.experts
    assert f"decoder.block.1.layer.2.mlp.experts.expert_{experts - 1}.wo.weight" in names
    assert "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight" in names


# ------------------------------------------------------------------ capacity


def test_experts_take_as_many_tokens_as_they_have_room_for() -> None:
    chosen = torch.tensor([[[0], [1], [0], [0], [1]], [[1], [1], [1], [0], [0]]])  # of two sequences
    assert taken(chosen, 2, 2)[..., 0].tolist() == [[True, True, True, False, True], [True, True, False, True, True]]
    assert not taken(chosen, 2, 0).any()
    pairs = torch.tensor([[[0, 1], [2, 0], [0, 2], [1, 2]]])
    assert taken(pairs, 3, 2)[0].tolist() == [[True, True], [True, True], [False, True], [True, False]]


@torch.no_grad()
def test_a_token_that_is_turned_away_gets_nothing_and_others_what_they_got() -> None:
    def moe(capacity: int | None) -> Any:
        router = RouterSpec(experts=3, active=1, capacity=capacity)
        made = make(MoE(router=router, expert=MLP(dim=7, act="relu")), 6)
        generator = torch.Generator().manual_seed(3)
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        return made

    x = torch.randn(2, 11, 6, generator=torch.Generator().manual_seed(8))

    def run(moe: Any, x: Tensor) -> Tensor:
        return moe(x, whole_call(Needs(), x, x.dtype))

    free, tight = run(moe(None), x), run(moe(2), x)
    chosen = moe(None).router(x.flatten(0, 1)).experts
    dropped = 0
    for row, experts in enumerate(chosen.view(2, 11).tolist()):
        for t, expert in enumerate(experts):
            if experts[:t].count(expert) < 2:
                assert_close(tight[row, t], free[row, t], 1e-5, f"row {row}, token {t}")
            else:
                dropped += 1
                assert not tight[row, t].any()
    assert dropped > 5
    assert_close(torch.cat([run(moe(2), x[:, t : t + 1]) for t in range(11)], 1), free, 1e-5, "a token in each call")


# ------------------------------------------------------------------ names, trees


@BY_CASE
def test_loading_and_saving_changes_no_byte(case: str, folder: Folder, tmp_path: Path) -> None:
    stored = {n: t.bfloat16() if t.ndim > 1 else t for n, t in in_files(folder(case)).items()}
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    save_file(stored, source / "model.safetensors", metadata={"format": "pt"})
    (source / "config.json").write_bytes((folder(case) / "config.json").read_bytes())
    model = vt.load(source, dtype="checkpoint")
    assert vt.save(model, target, max_shard_size="20KB") == []
    assert_equal_bytes(in_files(target), stored)
    assert vt.architecture(target) == vt.architecture(CASES[case]), "the long file says what the short one says"
    tables = {name for name in stored if "embed" in name or "shared" in name or "head" in name}
    untied = {"decoder.embed_tokens.weight", "encoder.embed_tokens.weight", "lm_head.weight", "shared.weight"}
    assert tables == ({"shared.weight"} if CASES[case].get("tie_word_embeddings", True) else untied)


@BY_CASE
def test_the_model_has_the_names_and_shapes_of_its_spec(case: str) -> None:
    arch = vt.architecture(CASES[case])
    built = {name: tuple(tensor.shape) for name, tensor in skeleton(arch).named_parameters()}
    assert built == {name: shape for name, (_, shape) in weights_of(arch).items()}
    assert_bijection(arch, spelled(arch, family_of(arch).irregular(arch)))


@BY_CASE
def test_a_tree_can_be_written_as_json_and_edited(case: str) -> None:
    arch = vt.architecture(CASES[case])
    again = from_json(to_json(arch))
    assert again == arch
    wider = edit(arch, "encoder.layers.0.mlp.body", lambda body: MLP(dim=7, act="relu"))
    assert wider != arch
    assert vt.cost(wider).parameters.total < vt.cost(arch).parameters.total


def changes(name: str | dict[str, Any]) -> set[Any]:
    """Every pair of kinds of layers that follow each other in a stack, the ends included, and what is around them."""
    arch = vt.architecture(name)
    assert arch.encoder is not None
    stacks = [["first", *map(kind, stack.layers), "last"] for stack in (arch.encoder, arch)]
    pairs = {pair for stack in stacks for pair in pairwise(stack)}
    return pairs | {kind(arch.head), kind(arch.embedding), kind(arch.encoder.embedding), kind(arch.final_norm)}


@pytest.mark.parametrize("name", ["switch-base-8", "switch-xxl", "switch-c-2048"])
def test_the_cases_hold_every_kind_of_layer_of_the_catalog_and_every_transition(name: str) -> None:
    assert changes(name) <= set().union(*map(changes, CONFIGS.values()))


def test_which_layers_have_experts() -> None:
    def sparse(case: str) -> tuple[list[int], list[int]]:
        arch = vt.architecture(CASES[case])
        assert arch.encoder is not None
        stacks = arch.encoder.layers, arch.layers
        found = [[i for i, x in enumerate(s) if isinstance(x.branches[-1].body, MoE)] for s in stacks]
        return found[0], found[1]

    assert sparse("tied") == ([1, 3], [1, 3])
    assert sparse("steps") == ([1, 4], [0, 1, 2])
    assert sparse("no_number") == ([1], [])  # none asked for, and more than there are layers
    assert sparse("dense") == ([], [])


# ------------------------------------------------------------------ training


@BY_ROOMY_CASE
def test_one_step_lowers_the_loss_as_much_as_the_gradient_promises(case: str, ours: Any) -> None:
    model = ours(case)
    read, written = ids(READ, 5), ids(WRITTEN, 6)
    chosen: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        if isinstance(module, Router):
            module.register_forward_hook(lambda _, __, result, path=path: chosen.update({path: result[1]}))

    def loss() -> Tensor:
        logits = model(read, decoder_input_ids=written)
        return F.cross_entropy(logits[:, :-1].flatten(0, 1).double(), written[:, 1:].flatten())

    before = loss()
    before.backward()
    routed, squares = dict(chosen), 0.0
    for name, parameter in model.named_parameters():
        grad = parameter.grad
        assert grad is not None, name
        assert bool(grad.isfinite().all()), name
        squares += float(grad.square().sum())
        path, expert, _ = name.partition(".experts.")
        if expert:
            used = torch.zeros(parameter.shape[0], dtype=torch.bool).index_fill(
                0, routed[f"{path}.router"].unique(), True
            )
            assert grad.flatten(1).abs().amax(1).gt(0).tolist() == used.tolist(), name
        else:
            assert bool(grad.abs().max() > 0), name
    promised = 1e-4
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(parameter.grad, alpha=promised / squares)
        gained = float(before - loss())
    assert 0.7 * promised < gained < 1.3 * promised


@BY_CASE
@torch.no_grad()
def test_the_naive_and_the_fast_operations_agree(case: str, ours: Any) -> None:
    model, read, written = ours(case), ids(READ), ids(WRITTEN, 1)
    lengths = torch.tensor([READ - 8, READ])
    fast = model(read, lengths=lengths, decoder_input_ids=written)
    with naive():
        assert_close(model(read, lengths=lengths, decoder_input_ids=written), fast, REPEATABLE, case)


# ------------------------------------------------------------------ what cannot be


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"router_dtype": "bfloat16"}, "router_dtype 'bfloat16' is not supported (only 'float32')"),
        ({"is_gated_act": True}, "is_gated_act True is not supported (only None, False)"),
        ({"feed_forward_proj": "gated-gelu"}, "feed_forward_proj 'gated-gelu' is not supported (only None, 'relu')"),
        ({"num_selected_experts": 2}, "num_selected_experts 2 is not supported (only None, 1)"),
        ({"num_decoder_layers": 10**9}, "num_decoder_layers is 1,000,000,000: more than 4,096 layers cannot be right"),
        ({"relative_attention_max_distance": 3}, "8 buckets of relative positions cannot reach to a distance of 3"),
        ({"expert_capacity": -1}, "expert_capacity must be a positive integer, got -1"),
    ],
)
def test_a_config_that_cannot_be_followed_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(vt.InputError) as error:
        vt.architecture(switch(**keys))
    assert str(error.value) == f"the config: {message}"


@torch.no_grad()
def test_a_call_that_makes_no_sense_is_refused(ours: Any) -> None:
    model, read, new = ours("tied"), ids(READ), ids(1)

    def refused(message: str, *args: Any, **keys: Any) -> None:
        with pytest.raises(vt.InputError, match=message):
            model(*args, **keys)

    refused("reads input_ids and writes after decoder_input_ids: give both", read)
    refused("has read nothing yet: give input_ids too", decoder_input_ids=new)
    refused("has read nothing yet: give input_ids too", decoder_input_ids=new, state=model.new_state(2, 8))
    small = model.new_state(2, 8)
    refused(r"41 are needed: ask for more with new_state\(encoder_capacity=41\)", read, small, decoder_input_ids=new)
    refused("the encoder has read 2 texts, and the decoder has 1 rows", read, decoder_input_ids=new[:1])
    refused("the encoder reads 2 texts: give a new state for as many", read, model.new_state(3), decoder_input_ids=new)
    refused("token ids run from 0 to 82, got 83 to 83", torch.tensor([[83]]), decoder_input_ids=new[:1])
    state = model.new_state(2, 8, encoder_capacity=READ)
    model(read, state=state, decoder_input_ids=new)
    refused("the encoder reads 2 texts: give a new state for as many", read, state, decoder_input_ids=new)
    decoder = skeleton(vt.architecture("smollm2-135m"))
    with pytest.raises(vt.InputError, match="smollm2-135m has no encoder: give its tokens as input_ids"):
        decoder(new, decoder_input_ids=new)
