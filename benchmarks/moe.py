"""A mixture of experts against transformers', in turn, on the same weights.

    python benchmarks/moe.py [--json] [--turns N]

One MoE layer (float32, inference) at 8 to 512 experts: prefill of 512 tokens and decoding of single tokens. Prints the
median time of each and the ratio, reference ÷ ours: above 1 is faster than the reference.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
import transformers
from transformers.models.qwen3_moe.configuration_qwen3_moe import Qwen3MoeConfig
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

from vitruvius import spec
from vitruvius.nn.twin import make

SHAPES = ((8, 2, 1024, 1792), (64, 6, 1024, 512), (128, 8, 1024, 384), (512, 10, 1024, 256))
TOKENS = (512, 1)


def pair(experts: int, active: int, width: int, dim: int) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Our layer and the reference's, with the same random weights."""
    config = Qwen3MoeConfig(
        hidden_size=width,
        moe_intermediate_size=dim,
        num_experts=experts,
        num_experts_per_tok=active,
        norm_topk_prob=True,
        num_hidden_layers=1,
    )
    config._experts_implementation = "grouped_mm"  # what transformers chooses for a model that can
    theirs = Qwen3MoeSparseMoeBlock(config).eval()
    with torch.no_grad():
        for value in theirs.parameters():
            value.normal_(0, 0.02)
    moe = spec.MoE(
        router=spec.Router(experts=experts, active=active, norm_topk_eps=0.0), expert=spec.GatedMLP(dim=dim, act="silu")
    )
    ours = make(moe, width)
    fused = theirs.experts.gate_up_proj
    with torch.no_grad():
        ours.router.weight.copy_(theirs.gate.weight)
        ours.experts.gate.weight.copy_(fused[:, :dim])
        ours.experts.up.weight.copy_(fused[:, dim:])
        ours.experts.down.weight.copy_(theirs.experts.down_proj)
    return ours, theirs


def timed(run: Callable[[], object], at_least: float = 0.05) -> float:
    """Seconds of one run, over as many as fill a while."""
    count, start = 0, time.perf_counter()
    while True:
        run()
        count += 1
        if (spent := time.perf_counter() - start) > at_least:
            return spent / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--turns", type=int, default=7)
    arguments = parser.parse_args()
    rows = []
    for shape in SHAPES:
        ours, theirs = pair(*shape)
        for tokens in TOKENS:
            inputs = [torch.randn(1, tokens, shape[2]) for _ in range(arguments.turns)]
            with torch.inference_mode():
                gap = max(float((ours(x) - theirs(x)).abs().max()) for x in inputs)
                assert gap < 1e-5, gap
                times = [(timed(partial(ours, x)), timed(partial(theirs, x))) for x in inputs]
            own, reference = (statistics.median(column) for column in zip(*times, strict=True))
            rows.append(
                {
                    "experts": shape[0],
                    "active": shape[1],
                    "tokens": tokens,
                    "ours_ms": own * 1e3,
                    "reference_ms": reference * 1e3,
                    "ratio": reference / own,
                }
            )
    about = {"torch": torch.__version__, "transformers": transformers.__version__, "threads": torch.get_num_threads()}
    if arguments.json:
        print(json.dumps(about | {"dtype": "float32", "turns": arguments.turns, "rows": rows}, indent=2))
        return
    print(", ".join(f"{key} {value}" for key, value in about.items()), f"float32, medians of {arguments.turns} turns")
    for row in rows:
        print(
            "{experts:4d} experts, {active:2d} active, {tokens:4d} tokens: ours {ours_ms:8.3f} ms, "
            "transformers {reference_ms:8.3f} ms, ratio {ratio:.2f}".format(**row)
        )


if __name__ == "__main__":
    main()
