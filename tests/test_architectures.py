"""Every architecture through every check.

Each tiny config of `cases.py`, and each model of the catalog where no weights are needed: names and shapes at full
size, bytes of the state, FLOPs of a real forward, logits against transformers, any chunking, rewinding and batching,
names both ways, one step of training. Parameter totals and drawings have their own files.
"""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import cases
import pytest
import reference
import torch
from cases import CASES, TOKENS
from random_configs import random_config
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import vitruvius as vt
from vitruvius import catalog, nn
from vitruvius.architectures import families, family_of
from vitruvius.cost import cost
from vitruvius.nn.attention import Indexer as IndexerModule
from vitruvius.nn.feedforward import Router
from vitruvius.nn.model import assign, skeleton, weights_of
from vitruvius.nn.ops import naive
from vitruvius.nn.state import Batch
from vitruvius.spec import (
    Attention,
    Chunk,
    Decoder,
    Indexer,
    LatentAttention,
    Llama3Scaling,
    RoPE,
    Spec,
    Tensors,
    Window,
    YaRN,
    spelled,
    walk,
)

TOLERANCE = 2e-4  # against transformers, absolute, in float32; it is not to be relaxed
REPEATABLE = 1e-4  # between two ways through our own model
BY_CASE = pytest.mark.parametrize("case", cases.PLAIN)  # a multimodal file describes the same models as one without
BY_COMPARED_CASE = pytest.mark.parametrize("case", cases.COMPARED)
BY_ENTRY = pytest.mark.parametrize("name", [entry.id for entry in catalog.entries() if not entry.like])

Checkpoint = Callable[[str], reference.Reference]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Case -> checkpoint and logits of transformers, made once."""

    @cache
    def make(case: str) -> reference.Reference:
        return reference.make(CASES[case], tmp_path_factory.mktemp("reference") / case)

    return make


@cache
def model_of(case: str) -> nn.Decoder:
    """A model of that case in which everything is random."""
    arch = vt.architecture(CASES[case])
    model, generator = skeleton(arch), torch.Generator().manual_seed(1)
    for name, (weight, shape) in weights_of(arch).items():
        noise = torch.randn(shape, generator=generator)
        value = 1.3 / shape[-1] ** 0.5 * noise if weight.initial is None else weight.initial + 0.3 * noise
        assign(model, name, value)
    return model.eval()


@lru_cache(maxsize=2)
def full_size(name: str) -> nn.Decoder:
    """A model of the catalog on the meta device."""
    return skeleton(vt.architecture(name))


@torch.no_grad()
def tokens(model: nn.Decoder, batch: int, length: int = TOKENS, seed: int = 0, margin: float = 2e-5) -> Tensor:
    """Random ids (batch, length), on which no expert or key is chosen by less than `margin`: rounding must not
    decide."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(500):
        ids = torch.randint(model.spec.embedding.vocab, (batch, length), generator=generator)
        with reference.Margins() as margins:
            model(ids)
        if margins.smallest >= margin:
            return ids
    raise AssertionError(f"experts or keys are chosen by less than {margin} on every input")


def assert_close(got: Tensor, wanted: Tensor, tolerance: float, what: str) -> None:
    assert got.shape == wanted.shape, what
    worst = float((got - wanted).abs().max())
    assert worst <= tolerance, f"{what}: differs by {worst:.1e}"  # a NaN fails too


def attention_of(arch: Decoder) -> list[Attention | LatentAttention]:
    return [node.spec for node in walk(arch, arch.width) if isinstance(node.spec, Attention | LatentAttention)]


# ------------------------------------------------------------------ the cases leave nothing out


def kind(value: Any) -> Any:
    """What sort of thing a part of a tree is: its numbers left out, everything else kept."""
    if isinstance(value, Spec):
        return type(value).__name__, *(kind(getattr(value, f.name)) for f in fields(value))
    if isinstance(value, tuple):
        kinds = tuple(map(kind, value))
        return "numbers" if set(kinds) == {"number"} else kinds
    return "number" if type(value) in (int, float) else value


def changes(arch: Decoder) -> set[Any]:
    """Every pair of kinds of layers that follow each other, the ends included."""
    kinds = ["first", *map(kind, arch.layers), "last"]
    return set(pairwise(kinds)) | {kind(arch.head), kind(arch.embedding), kind(arch.final_norm)}


@BY_ENTRY
def test_the_cases_hold_every_kind_of_layer_of_the_catalog_and_every_transition(name: str) -> None:
    arch = vt.architecture(name)
    if arch.encoder:
        return  # encoder–decoders have a file of their own
    tiny = [vt.architecture(config) for config in CASES.values()]
    covered = set().union(*(changes(other) for other in tiny if other.family == arch.family))
    assert changes(arch) <= covered


def test_the_cases_hold_every_family() -> None:
    # encoder–decoders have a file of their own
    assert {config["model_type"] for config in cases.PLAIN.values()} == set(families()) - {"switch_transformers"}


@BY_CASE
def test_windows_and_scalings_are_crossed(case: str) -> None:
    """A tiny model is of no use where the sequence does not leave the window, or the context before scaling."""
    for part in attention_of(vt.architecture(CASES[case])):
        match part.mask:
            case Window(size=size) | Chunk(size=size) | Indexer(topk=size):
                assert 4 * size < TOKENS
        match part.positions:
            case RoPE(scaling=Llama3Scaling(original_context=context) | YaRN(original_context=context)):
                assert 2 * context < TOKENS


# ------------------------------------------------------------------ 2. names and shapes


def assert_built_as_specified(model: nn.Decoder) -> None:
    expected = {name: shape for name, (_, shape) in weights_of(model.spec).items()}
    built = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    assert {name: tuple(tensor.shape) for name, tensor in built.items()} == expected


@BY_ENTRY
def test_the_full_model_has_the_names_and_shapes_of_its_spec(name: str) -> None:
    model, exact = full_size(name), catalog.entry(name).exact
    assert_built_as_specified(model)
    assert all(parameter.is_meta for parameter in model.parameters())
    if exact["tested"]:  # the recorded totals are without layers for multi-token prediction
        parameters = {n: p.numel() for n, p in model.named_parameters() if not n.startswith("mtp.")}
        biases = {n: b.numel() for n, b in model.named_buffers() if re.fullmatch(r"layers\..*\.selection_bias", n)}
        assert sum(parameters.values()) + sum(biases.values()) == exact["total"] + exact["router_bias"]


@BY_CASE
def test_the_tiny_model_has_the_names_and_shapes_of_its_spec(case: str) -> None:
    assert_built_as_specified(model_of(case))


# ------------------------------------------------------------------ 3. bytes of the state


def held(state: Batch) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in state.tensors)


def longest_window(arch: Decoder) -> int:
    return max(getattr(part.mask, "size", 1) for part in attention_of(arch))


@BY_ENTRY
def test_the_state_at_full_size_takes_the_bytes_that_cost_says(name: str) -> None:
    model = full_size(name)
    for context in (1, 1000, 4 * longest_window(model.spec) + 3, model.spec.context):
        expected = cost(model.spec, context=context, batch=2, dtype="f32").state
        assert held(model.new_state(batch=2, capacity=context)) == expected.bytes == expected.policies["vitruvius"]


@BY_CASE
@torch.no_grad()
def test_a_state_in_use_takes_the_bytes_that_cost_says(case: str) -> None:
    model = model_of(case)
    for context in (3, TOKENS):
        state = model.new_state(batch=2, capacity=context)
        for column in tokens(model, 2, context).split(2, 1):
            model(column, state)
        assert state.length == context
        assert held(state) == state.nbytes == cost(model.spec, context=context, batch=2, dtype="f32").state.bytes


# ------------------------------------------------------------------ 4. FLOPs


class Counter(TorchDispatchMode):
    """Counts 2 for each multiply-add of the matrix products that run, less those of scores that a mask hides. It sees
    tensors only.

    A mask on scores (B, H, T, S) hides the last batched product and the next, with the values; one on an indexer's
    scores (B, T, S) the last two, with the keys and over the heads.
    """

    PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")
    OTHERS = ("linear", "matmul", "dot", "mv", "addmv", "einsum", "conv", "grouped", "attention")

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self.batched = [0, 0]  # of the last batched products
        self.scores = 0  # how many numbers the last product gave, if it was a batched one
        self.hidden = 0.0  # the share that the last mask hides of scores whose product with values is still to come

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name in self.PRODUCTS or not any(word in name.split("_") for word in self.OTHERS), (
            f"{name} is not counted"
        )
        result = func(*args, **(kwargs or {}))
        if name in self.PRODUCTS:
            flops = 2 * result.numel() * args[name in ("addmm", "baddbmm")].shape[-1]
            self.flops += flops
            self.scores = 0
            if name in ("bmm", "baddbmm"):
                self.scores = result.numel()
                self.flops -= round(self.hidden * flops)
                self.hidden, self.batched = 0.0, [self.batched[-1], flops]
        elif name == "masked_fill" and args[0].numel() == self.scores and args[2] == -torch.inf:
            hidden = float(args[1].expand_as(args[0]).double().mean())
            scores = args[0].ndim == 4
            self.flops -= round(hidden * sum(self.batched[1:] if scores else self.batched))
            self.hidden = hidden if scores else 0.0
        return result


def count(run: Callable[[], Any]) -> int:
    with torch.no_grad(), naive(), Counter() as counter:
        run()
    return counter.flops


@pytest.mark.parametrize("batch", [1, 2])
@BY_CASE
def test_prefill_takes_the_flops_that_cost_says(case: str, batch: int) -> None:
    model = model_of(case)
    for context in (1, 5, TOKENS):
        ids = tokens(model, batch, context)
        expected = cost(model.spec, context=context, batch=batch).flops
        assert count(lambda ids=ids: model(ids)) == expected.prefill == sum(expected.by_part["prefill"].values())
        assert count(lambda ids=ids: model(ids, model.new_state(batch, TOKENS))) == expected.prefill


@BY_CASE
@torch.no_grad()
def test_one_more_token_takes_the_flops_that_cost_says(case: str) -> None:
    model = model_of(case)
    ids, state = tokens(model, 2), model.new_state(2, TOKENS)
    for context in (1, 2, 6, 11, TOKENS):
        if context > state.length + 1:
            model(ids[:, state.length : context - 1], state)
        expected = cost(model.spec, context=context).flops
        new = ids[:, context - 1 : context]
        assert count(lambda new=new: model(new, state)) == 2 * expected.decode_per_token, context


def test_the_counter_counts_what_is_known() -> None:
    x, w = torch.randn(3, 5), torch.randn(7, 5)
    assert count(lambda: F.linear(x, w)) == count(lambda: F.linear(x, w, torch.ones(7))) == 2 * 3 * 5 * 7
    q, k, v = torch.randn(2, 4, 6, 8), torch.randn(2, 4, 6, 8), torch.randn(2, 4, 6, 3)
    hidden = torch.ones(6, 6, dtype=torch.bool).triu(1)
    pairs = 2 * 4 * (6 * 7 // 2)  # of the 36 of each head and row, 21 are seen
    attention = lambda: (q @ k.transpose(-1, -2)).masked_fill(hidden, -torch.inf).softmax(-1) @ v  # noqa: E731
    assert count(attention) == 2 * pairs * (8 + 3)
    with pytest.raises(AssertionError, match="not counted"):
        count(lambda: F.scaled_dot_product_attention(q, k, k))


# ------------------------------------------------------------------ 5. transformers


@BY_COMPARED_CASE
@torch.no_grad()
def test_logits_equal_those_of_transformers(case: str, checkpoint: Checkpoint) -> None:
    """At once, and through the state one token at a time after half of the sequence."""
    expected = checkpoint(case)
    model = vt.load(expected.folder)
    ids, half = expected.input_ids, TOKENS // 2
    assert 0.5 < float(expected.logits.std()) < 3, "the comparison must mean something"
    logits = model(ids)
    if not float((logits - expected.logits).abs().max()) <= TOLERANCE:
        from vitruvius.inference.verify import first_difference

        pytest.fail(f"{case}: {first_difference(model, expected.folder, ids)}")
    state = model.new_state(batch=2, capacity=TOKENS)
    parts = [model(ids[:, :half], state), *(model(new, state) for new in ids[:, half:].split(1, 1))]
    assert_close(torch.cat(parts, 1), expected.logits, TOLERANCE, "through the state")


@BY_COMPARED_CASE
@torch.no_grad()
def test_hidden_states_equal_those_of_transformers(case: str, checkpoint: Checkpoint) -> None:
    expected = checkpoint(case)
    hidden = vt.load(expected.folder).hidden_states(expected.input_ids)
    assert len(hidden) == len(expected.hidden) == len(vt.architecture(expected.folder).layers) + 1
    for i, (ours, theirs) in enumerate(zip(hidden, expected.hidden, strict=True)):
        if theirs.ndim == 4 > ours.ndim:
            continue  # of several streams transformers shows the last state before they are merged
        scale = max(1.0, float(theirs.abs().max()))
        assert_close(ours, theirs, TOLERANCE * scale, f"after {i} layers")


@BY_COMPARED_CASE
def test_a_config_means_what_transformers_makes_of_it(case: str, checkpoint: Checkpoint) -> None:
    """transformers writes every key, and RoPE in the new spelling: the tree is that of the shorter file it was made
    from."""
    assert vt.architecture(checkpoint(case).folder) == vt.architecture(CASES[case])


@pytest.mark.parametrize("case", [case for case in cases.COMPARED if case not in cases.WITHOUT_HEAD])
@torch.no_grad()
def test_transformers_reads_what_is_saved(case: str, tmp_path: Path) -> None:
    """The other way round: our model, written, gives the same logits there."""
    model = model_of(case)
    vt.save(model, tmp_path)
    expected = reference.logits(tmp_path, ids := tokens(model, 2))
    assert_close(model(ids), expected, TOLERANCE, case)


@pytest.mark.parametrize("seed", [*range(20), *(pytest.param(n, marks=pytest.mark.slow) for n in range(20, 400))])
@torch.no_grad()
def test_random_configs_equal_transformers(seed: int, tmp_path: Path) -> None:
    """Read, run in chunks through the state, and saved: what `cases.py` has not thought of."""
    choose = random.Random(seed)
    config = random_config(choose)
    expected = reference.make(config, tmp_path / "theirs", seed)
    assert vt.architecture(config) == vt.architecture(expected.folder), config
    model = vt.load(expected.folder)
    state = model.new_state(batch=2, capacity=TOKENS)
    sizes = list(chunks(TOKENS, choose))
    parts = [model(new, state) for new in expected.input_ids.split(sizes, 1)]
    assert_close(model(expected.input_ids), expected.logits, TOLERANCE, str(config))
    assert_close(torch.cat(parts, 1), expected.logits, TOLERANCE, f"{sizes} {config}")
    vt.save(model, tmp_path / "ours")
    again = reference.logits(tmp_path / "ours", expected.input_ids)
    assert_close(again, expected.logits, 1e-6, str(config))


# ------------------------------------------------------------------ 6. chunks, rewinding, batches


def chunks(total: int, choose: random.Random) -> Iterator[int]:
    """Sizes of chunks that sum to `total`: often one token, sometimes many."""
    while total:
        size = min(total, choose.choice([1, 1, 2, choose.randint(1, 12), choose.randint(1, total)]))
        yield size
        total -= size


SEEDS = pytest.mark.parametrize("seed", [0, 1, 2, *(pytest.param(n, marks=pytest.mark.slow) for n in range(3, 12))])


@SEEDS
@BY_CASE
@torch.no_grad()
def test_any_chunking_with_any_rewinding_equals_one_forward(case: str, seed: int) -> None:
    model, choose = model_of(case), random.Random(f"{case} {seed}")
    ids = tokens(model, 2, seed=seed)
    expected = model(ids)
    slack = choose.choice([0, 0, 1, 4, TOKENS])
    state = model.new_state(batch=2, capacity=TOKENS + choose.choice([0, 1, 9]), slack=slack)
    farthest, snapshots = 0, [0]
    for _ in range(5):
        for size in chunks(TOKENS - state.length, choose):
            at = state.length
            got = model(ids[:, at : at + size], state)
            assert_close(got, expected[:, at : at + size], REPEATABLE, f"{size} tokens at {at}, slack {slack}")
            if choose.random() < 0.3:
                state.snapshot()
                snapshots.append(state.length)
            if choose.random() < 0.25:
                break
        at = state.length
        farthest = max(farthest, at)
        # A window keeps itself and the slack, and of the window one place is the next query's own; a recurrence keeps
        # what it was when a snapshot was taken.
        kept = [
            n
            for n in range(min(at, max(0, farthest - slack - 1)), at + 1)
            if not state.recurrent or n in (*snapshots, at)
        ]
        near = choose.choice(kept)
        assert state.reach(near) == near
        wanted = choose.choice([near, min(at, max(0, farthest - slack - 2)), choose.randint(0, at)])
        back = state.reach(wanted)
        assert back <= wanted
        assert state.reach(back) == back
        if back < wanted:
            with pytest.raises(vt.InputError, match=f"cannot return to {wanted} tokens; the nearest is {back}"):
                state.rewind(wanted)
        assert state.length == at
        state.rewind(back)
        farthest, snapshots = farthest if back else 0, [n for n in snapshots if n <= back]
        assert state.lengths == [back, back]


@SEEDS
@BY_CASE
@torch.no_grad()
def test_rows_of_different_lengths_equal_each_on_its_own(case: str, seed: int) -> None:
    """Chunks padded on the right, each row with its own share of the chunk; then all go back to a common length, and
    on."""
    model, choose = model_of(case), random.Random(f"{case} {seed}")
    batch = 3
    ids = tokens(model, batch, seed=seed)
    expected = torch.cat([model(row[None]) for row in ids])
    state = model.new_state(batch, capacity=TOKENS + 4, slack=choose.choice([0, 3, TOKENS]))
    for _ in range(4):
        while (room := TOKENS - state.length) > 0:
            most = choose.choice([1, min(4, room), room])
            counts = [choose.randint(1, most) for _ in range(batch)]
            width = max(counts) + choose.choice([0, 2])
            new = torch.randint(model.spec.embedding.vocab, (batch, width), generator=torch.Generator().manual_seed(7))
            starts = list(state.lengths)
            for row, (start, size) in enumerate(zip(starts, counts, strict=True)):
                new[row, :size] = ids[row, start : start + size]
            even = len(set(counts)) == 1 and counts[0] == width
            got = model(new, state, None if even and choose.random() < 0.5 else torch.tensor(counts))
            for row, (start, size) in enumerate(zip(starts, counts, strict=True)):
                wanted = expected[row, start : start + size]
                assert_close(got[row, :size], wanted, REPEATABLE, f"row {row}, {size} tokens at {start}")
            assert state.lengths == [start + size for start, size in zip(starts, counts, strict=True)]
            if choose.random() < 0.3:
                break
        back = state.reach(choose.randint(0, state.length))
        assert state.reach(back) == back, "what can be reached can be reached"
        state.rewind(back)


@BY_CASE
@torch.no_grad()
def test_a_padded_batch_equals_its_rows(case: str) -> None:
    model = model_of(case)
    ids = tokens(model, 3)
    lengths = torch.tensor([TOKENS, 1, 20])
    for batch in (model(ids, lengths=lengths), model(ids, model.new_state(3, TOKENS), lengths)):
        for row, length in enumerate(lengths.tolist()):
            alone = model(ids[row : row + 1, :length])[0]
            assert_close(batch[row, :length], alone, REPEATABLE, f"row {row} of {length} tokens")


@BY_CASE
@torch.no_grad()
def test_the_naive_and_the_fast_operations_agree(case: str) -> None:
    model = model_of(case)
    ids = tokens(model, 2)
    fast = model(ids)
    with naive():
        assert_close(model(ids), fast, REPEATABLE, "at once")
        state = model.new_state(2, TOKENS)
        parts = [model(ids[:, :11], state), *(model(new, state) for new in ids[:, 11:].split(1, 1))]
        assert_close(torch.cat(parts, 1), fast, REPEATABLE, "through the state")


# ------------------------------------------------------------------ 7. names


def assert_bijection(arch: Decoder, entries: list[Tensors]) -> None:
    ours = [name for entry in entries for name in entry.ours]
    theirs = [name for entry in entries for name in entry.theirs]
    assert len(set(theirs)) == len(theirs)
    assert len(set(ours)) == len(ours)
    shapes = {name: shape for entry in entries for name, shape in zip(entry.ours, entry.shapes, strict=True)}
    assert shapes == {name: shape for name, (_, shape) in weights_of(arch).items()}


@BY_ENTRY
def test_every_weight_of_the_catalog_has_one_name_in_the_file(name: str) -> None:
    arch = vt.architecture(name)
    assert_bijection(arch, spelled(arch, family_of(arch).irregular(arch)))


def in_files(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def assert_equal_bytes(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert got.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert got[name].dtype == tensor.dtype, name
        assert torch.equal(got[name].view(torch.uint8), tensor.view(torch.uint8)), name


@BY_COMPARED_CASE
def test_loading_and_saving_changes_no_byte(case: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Matrices in bfloat16 and vectors in float32, in one file, then in shards, then in one file again."""
    stored = {
        name: tensor.to(torch.bfloat16) if tensor.ndim > 1 else tensor
        for name, tensor in in_files(checkpoint(case).folder).items()
    }
    source, sharded, single = tmp_path / "source", tmp_path / "sharded", tmp_path / "single"
    source.mkdir()
    save_file(stored, source / "model.safetensors", metadata={"format": "pt"})
    (source / "config.json").write_bytes((checkpoint(case).folder / "config.json").read_bytes())
    first = vt.load(source, dtype="checkpoint")
    assert vt.save(first, sharded, max_shard_size="20KB") == []
    assert_equal_bytes(in_files(sharded), stored)
    index = json.loads((sharded / "model.safetensors.index.json").read_text("utf-8"))
    assert index["weight_map"].keys() == stored.keys()
    assert len(set(index["weight_map"].values())) == len(list(sharded.glob("*.safetensors"))) > 1
    second = vt.load(sharded, dtype="checkpoint")
    assert_equal_bytes(dict(second.state_dict()), dict(first.state_dict()))
    assert vt.save(second, single) == []
    assert_equal_bytes(in_files(single), stored)
    assert vt.architecture(single) == vt.architecture(source)
    assert first.spec == second.spec == replace(vt.architecture(source), mtp=())  # transformers writes no such layers


@pytest.mark.parametrize("case", cases.WRAPPED)
def test_what_a_saved_text_model_leaves_out_is_named(case: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    source, moved, target = checkpoint(case).folder, tmp_path / "source", tmp_path / "target"
    moved.mkdir()
    for file in source.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    model = vt.load(moved, dtype="checkpoint")
    stored = in_files(source)
    for file in moved.glob("*.safetensors"):
        file.unlink()
    try:
        left_out = vt.save(model, target)
    except vt.InputError:
        assert not target.exists() or not any(target.iterdir()), "nothing half-written"
        return
    saved = in_files(target)
    assert set(left_out) == stored.keys() - saved.keys()
    assert all("vision" in name or "projector" in name for name in left_out)
    assert_equal_bytes(saved, {name: tensor for name, tensor in stored.items() if name not in left_out})


# ------------------------------------------------------------------ 8. training


@BY_CASE
def test_one_step_lowers_the_loss_as_much_as_the_gradient_promises(case: str) -> None:
    model = copy.deepcopy(model_of(case))
    ids = tokens(model, 2, seed=5, margin=1e-4)
    chosen: dict[str, Tensor] = {}
    untrained: set[str] = set()  # an indexer learns from attention's weights, not from this loss
    for path, module in model.named_modules():
        if isinstance(module, Router):
            module.register_forward_hook(lambda _, __, result, path=path: chosen.update({path: result[1]}))
        if isinstance(module, IndexerModule):
            untrained.add(path)

    def loss() -> Tensor:
        seen = ids[:, :-1]  # every token that is seen has one to predict, so every chosen expert learns
        predicted = [model(seen), *model.ahead(seen)]
        return sum(
            F.cross_entropy(logits.flatten(0, 1).double(), ids[:, k + 1 :].flatten())
            for k, logits in enumerate(predicted)
        )

    before = loss()
    before.backward()
    routed = dict(chosen)
    squares = 0.0
    for name, parameter in model.named_parameters():
        grad = parameter.grad
        if any(name.startswith(f"{path}.") for path in untrained):
            assert grad is None, name
            continue
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
    assert all(buffer.grad is None for buffer in model.buffers())
    promised = 2e-5  # so little that hardly a token changes its experts
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.sub_(promised / squares * parameter.grad)
        gained = float(before - loss())
    assert 0.7 * promised < gained < 1.3 * promised
