"""Each layout's loss curve is that of one process: dense, mixtures, latent attention, hybrids, tied weights."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import cases
import pytest
import torch
import torch.distributed as dist
from test_distributed import model_of
from torch import Tensor
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

import vitruvius as vt
from vitruvius.errors import InputError
from vitruvius.nn import Decoder
from vitruvius.sharding import plan
from vitruvius.training import Recipe, train
from vitruvius.training.batches import Held, TokenBatch
from vitruvius.training.losses import LossWeights, losses
from vitruvius.training.optimizers import build
from vitruvius.training.parallel import ParallelLayout, clip_gradients, mesh_of, parallelize

SLOW = pytest.mark.slow
STEPS, ROWS, TOKENS = 4, 4, 13
CASES = ["llama_linear", "qwen3_moe", "deepseek_v3", "qwen3_next", "gemma3", "kimi_linear"]  # first and fifth: tied
MIXTURES = {"qwen3_moe", "deepseek_v3", "qwen3_next", "kimi_linear"}
LAYOUTS = {
    "fsdp": {"data": 2},
    "tp": {"tensor": 2},
    "ep": {"data": 2, "expert": 2},
    "tp_ep": {"tensor": 2, "expert": 2},
    "hsdp": {"replicate": 2, "data": 2},
    "fsdp_tp": {"data": 2, "tensor": 2},
    "fsdp_ep": {"data": 4, "expert": 2},
    "fsdp_tp_ep": {"data": 2, "tensor": 2, "expert": 4},
    "fsdp_tp_ep_2": {"data": 2, "tensor": 2, "expert": 2},
}


def rows_of(model: Decoder, step: int) -> Tensor:
    generator = torch.Generator().manual_seed(100 + step)
    return torch.randint(model.spec.embedding.vocab, (ROWS, TOKENS + 1), generator=generator)


def curve(
    model: Decoder, optimizer: torch.optim.Optimizer, steps: range, parts: int = 1, place: int = 0
) -> list[list[float]]:
    """Loss and gradient norm of each step; of `parts` groups this one has its share of the rows."""
    found = []
    for step in steps:
        rows = rows_of(model, step).chunk(parts)[place]
        optimizer.zero_grad()
        weights = LossWeights(router_z=1e-3)  # whose mean over rows is the mean over groups
        loss = losses(model, rows[:, :-1], rows[:, 1:], weights=weights).total
        loss.backward()
        norm = clip_gradients(model, 1.0)
        optimizer.step()
        mean = loss.detach().clone()
        if dist.is_initialized():
            dist.all_reduce(mean)
            mean /= dist.get_world_size()
        found.append([float(mean), float(norm)])
    return found


def entered(rank: int, folder: Path, work: Callable[..., None], processes: int, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), processes)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=processes, timeout=timedelta(seconds=60))
    work(rank, *arguments)
    dist.destroy_process_group()


def run(folder: Path, work: Callable[..., None], processes: int, *arguments: Any) -> None:
    torch.multiprocessing.spawn(entered, (folder, work, processes, arguments), nprocs=processes)


def laid(case: str, layout: dict[str, int]) -> tuple[Decoder, ParallelLayout]:
    parallel = ParallelLayout.of(layout)
    model = model_of(case)
    zero = 3 if parallel.rows > 1 else 0
    return parallelize(model, mesh_of(parallel), plan(model.spec, parallel.layout, zero)), parallel


def follows(rank: int, jobs: list[tuple[str, str, str, list[list[float]]]]) -> None:
    for case, layout, name, wanted in jobs:
        model, parallel = laid(case, LAYOUTS[layout])
        names = [path for path, _ in model.named_parameters()]
        assert names == [path for path, _ in model_of(case).named_parameters()], "names are the canonical ones"
        got = curve(model, build(model, name, 3e-3), range(STEPS), parallel.rows, parallel.place(rank))
        torch.testing.assert_close(
            torch.tensor(got),
            torch.tensor(wanted),
            atol=1e-4,
            rtol=2e-4,
            msg=lambda text, j=(case, layout): f"{j}: {text}",
        )


def one_process(case: str, name: str, steps: int = STEPS) -> list[list[float]]:
    model = model_of(case)
    found = curve(model, build(model, name, 3e-3), range(steps))
    assert len({loss for loss, _ in found}) == steps
    return found


def jobs_of(processes: int, name: str = "adamw") -> list[tuple[str, str, str, list[list[float]]]]:
    """Every case in every layout of so many processes that its plan does not refuse."""
    found = []
    for case in CASES:
        wanted = one_process(case, name)
        for layout, line in LAYOUTS.items():
            parallel = ParallelLayout.of(line)
            arch = model_of(case).spec
            possible = parallel.devices == processes and not plan(arch, parallel.layout).refusals
            if possible and (case in MIXTURES or parallel.expert == 1):
                found.append((case, layout, name, wanted))
    return found


# some processes do several cases: starting them takes longer than the cases


@pytest.mark.parametrize(
    "jobs",
    [
        [("llama_linear", "fsdp", "adamw"), ("qwen3_moe", "tp", "adamw"), ("qwen3_moe", "ep", "muon")],
    ],
)
def test_some_curves_are_those_of_one_process(jobs: list[tuple[str, str, str]], tmp_path: Path) -> None:
    run(tmp_path, follows, 2, [(case, layout, name, one_process(case, name)) for case, layout, name in jobs])


@SLOW
@pytest.mark.parametrize("processes", [2, 4])
def test_the_curve_of_each_layout_is_that_of_one_process(processes: int, tmp_path: Path) -> None:
    jobs = jobs_of(processes)
    assert {case for case, *_ in jobs} == set(CASES)
    run(tmp_path, follows, processes, jobs)


@SLOW
def test_muon_is_right_for_matrices_on_several_dimensions_of_a_mesh(tmp_path: Path) -> None:
    wanted = one_process("deepseek_v3", "muon")
    run(tmp_path, follows, 4, [("deepseek_v3", layout, "muon", wanted) for layout in ("fsdp_tp_ep", "fsdp_tp", "hsdp")])


# ------------------------------------------------------------------ checkpoints


def state_of(model: Decoder, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    weights, moments = get_state_dict(model, optimizer, options=StateDictOptions(flatten_optimizer_state_dict=True))
    return {"model": weights, "optimizer": moments}


def saves(rank: int, case: str, layout: str, folder: Path) -> None:
    model, parallel = laid(case, LAYOUTS[layout])
    optimizer = build(model, "muon", 3e-3)
    curve(model, optimizer, range(2), parallel.rows, parallel.place(rank))
    dcp.save(state_of(model, optimizer), checkpoint_id=folder)


def goes_on(rank: int, case: str, layout: str, folder: Path, wanted: list[list[float]]) -> None:
    model, parallel = laid(case, LAYOUTS[layout])
    optimizer = build(model, "muon", 3e-3)
    state = state_of(model, optimizer)
    dcp.load(state, checkpoint_id=folder)
    set_state_dict(
        model,
        optimizer,
        model_state_dict=state["model"],
        optim_state_dict=state["optimizer"],
        options=StateDictOptions(flatten_optimizer_state_dict=True),
    )
    got = curve(model, optimizer, range(2, STEPS), parallel.rows, parallel.place(rank))
    torch.testing.assert_close(torch.tensor(got), torch.tensor(wanted[2:]), atol=1e-4, rtol=2e-4)


@SLOW
@pytest.mark.parametrize(
    ("case", "first", "then"),
    [("qwen3_moe", "fsdp", "tp"), ("qwen3_moe", "tp_ep", "fsdp"), ("deepseek_v3", "fsdp_tp_ep", "ep")],
)
def test_checkpoints_go_from_one_layout_to_another(case: str, first: str, then: str, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    for part in ("a", "b"):
        (tmp_path / part).mkdir()
    run(tmp_path / "a", saves, ParallelLayout.of(LAYOUTS[first]).devices, case, first, folder)
    wanted = one_process(case, "muon")
    run(tmp_path / "b", goes_on, ParallelLayout.of(LAYOUTS[then]).devices, case, then, folder, wanted)


# ------------------------------------------------------------------ whole runs


def recipe_of(folder: Path, **keys: Any) -> Recipe:
    sizes = {"steps": STEPS, "batch": ROWS, "sequence": TOKENS, "warmup": 1, "precision": "f32", "checkpointing": True}
    return Recipe(out=str(folder), seed=3, z_loss=1e-3, **{**sizes, **keys})


def batch_of(i: int) -> TokenBatch:
    """Rows of which some learn less than others."""
    rows = torch.randint(83, (ROWS, TOKENS + 1), generator=torch.Generator().manual_seed(i))
    targets = rows[:, 1:].clone()
    targets[0, 3:] = -100
    return TokenBatch(rows[:, :-1], targets)


def begins(rank: int, folder: Path, line: dict[str, int], case: str) -> None:
    os.environ["WORLD_SIZE"] = str(ParallelLayout.of(line).devices)
    asked: list[int] = []
    found = train(
        recipe_of(folder, parallel=line),
        model=cases.CASES[case],
        data=batch_of,
        held=Held([batch_of(90)]),
        stop=lambda: asked.append(1) or len(asked) == 2,  # type: ignore[func-returns-value]
    )
    assert found.progress.step == 2


def went(folder: Path) -> Tensor:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return torch.tensor([[row["loss"], row["grad_norm"]] for row in map(json.loads, lines)])


@pytest.mark.parametrize(
    ("case", "line"),
    [("qwen3_moe", {"tensor": 2}), pytest.param("deepseek_v3", {"data": 2, "expert": 2}, marks=SLOW)],
)
def test_a_run_of_two_processes_is_that_of_one_which_also_goes_on_with_it(
    case: str, line: dict[str, int], tmp_path: Path
) -> None:
    config, held = cases.CASES[case], Held([batch_of(90)])
    alone = train(recipe_of(tmp_path / "alone"), model=config, data=batch_of, held=held)
    run(tmp_path, begins, 2, tmp_path / "run", line, case)
    assert len(went(tmp_path / "run")) == 2
    exported = vt.load(tmp_path / "run" / "export")
    assert float((exported.head.weight - alone.model.head.weight).detach().abs().max()) > 1e-4, "it was stopped before"
    rest = train(recipe_of(tmp_path / "run", resume=True), model=config, data=batch_of, held=held)
    torch.testing.assert_close(went(tmp_path / "run"), went(tmp_path / "alone"), atol=1e-4, rtol=2e-4)
    for (name, one), other in zip(alone.model.named_parameters(), rest.model.parameters(), strict=True):
        torch.testing.assert_close(other, one, atol=2e-4, rtol=1e-3, msg=lambda text, n=name: f"{n}: {text}")


def test_processes_that_no_line_speaks_of_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="2 processes were started"):
        train(recipe_of(tmp_path), model=cases.CASES["llama"], data=batch_of)
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(InputError, match="asks for 2 processes"):
        train(recipe_of(tmp_path, parallel={"data": 2}), model=cases.CASES["llama"], data=batch_of)
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------ what cannot be


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"tensors": 2}, "did you mean tensor"),
        ({"data": 0}, "parallel.data must be a whole number"),
        ({"data": 2, "expert": 3}, "must divide the 2 devices"),
        ({"data": True}, "whole number"),
    ],
)
def test_lines_that_cannot_be_are_said(line: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        ParallelLayout.of(line)


def test_the_number_of_processes_is_said() -> None:
    with pytest.raises(
        InputError, match="asks for 4 processes, and there are 1: run it as torchrun --nproc-per-node 4"
    ):
        mesh_of(ParallelLayout(data=2, tensor=2))


def refused(rank: int) -> None:
    with pytest.raises(InputError, match="6 experts do not divide among 4 devices"):
        laid("qwen3_moe", {"data": 4, "expert": 4})


@SLOW
def test_a_plan_that_is_refused_is_not_run(tmp_path: Path) -> None:
    run(tmp_path, refused, 4)
