"""Recurrences, and the layers around them, against transformers', in turn, on the same numbers.

    python benchmarks/recurrent.py [--json] [--turns N] [--large]

Prefill of 1,024 and 4,096 tokens (float32, inference) through Gated DeltaNet, Kimi Delta Attention and Mamba-2: the
recurrence alone, with 4 heads of 128 channels (16 of 64 for Mamba-2); the whole layer in a width of 512, projections
and convolution included; with --large the layers of Qwen3-Next 80B-A3B, Kimi Linear 48B-A3B and Nemotron 3 Nano, most
of whose time goes into matrix products that both sides do alike. Prints the median time of each and the ratio,
reference ÷ ours: above 1 is faster than the reference. transformers runs what it has for a CPU without further
packages.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.kimi_linear.configuration_kimi_linear import KimiLinearConfig
from transformers.models.kimi_linear.modeling_kimi_linear import KimiLinearDeltaAttention, chunk_kimi_delta_attention
from transformers.models.mamba2.configuration_mamba2 import Mamba2Config
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer, mamba2_chunk_scan
from transformers.models.nemotron_h.configuration_nemotron_h import NemotronHConfig
from transformers.models.nemotron_h.modeling_nemotron_h import NemotronHMamba2Mixer
from transformers.models.qwen3_5.configuration_qwen3_5 import Qwen3_5TextConfig
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5GatedDeltaNet, torch_chunk_gated_delta_rule

from vitruvius import spec
from vitruvius.nn.call import Call, new_positions
from vitruvius.nn.model import build  # noqa: F401  (importing it registers every module)
from vitruvius.nn.ops import delta_rule, state_space
from vitruvius.nn.twin import make

Pair = tuple[nn.Module, nn.Module]
Runs = tuple[Callable[[], Tensor], Callable[[], Tensor]]
TOKENS = (1024, 4096)
CONV = spec.Convolution(kernel=4, act="silu")


def gated_delta_net(width: int, k_heads: int, v_heads: int) -> Pair:
    """Heads of 128 channels."""
    config = Qwen3_5TextConfig(
        hidden_size=width,
        num_hidden_layers=1,
        linear_num_key_heads=k_heads,
        linear_num_value_heads=v_heads,
        layer_types=["linear_attention"],
    )
    theirs = random(Qwen3_5GatedDeltaNet(config, 0))
    norm = spec.GatedNorm(eps=1e-6)
    ours = make(spec.GatedDeltaNet(k_heads=k_heads, v_heads=v_heads, k_dim=128, v_dim=128, conv=CONV, norm=norm), width)
    q, k, v = theirs.in_proj_qkv.weight.split([k_heads * 128, k_heads * 128, v_heads * 128])
    fill(ours, {"q.weight": q, "k.weight": k, "v.weight": v, "gate.weight": theirs.in_proj_z.weight})
    fill(ours, {"beta.weight": theirs.in_proj_b.weight, "decay.weight": theirs.in_proj_a.weight})
    fill(ours, {"conv": theirs.conv1d.weight, "A_log": theirs.A_log, "dt_bias": theirs.dt_bias})
    return fill(ours, {"norm.weight": theirs.norm.weight, "o.weight": theirs.out_proj.weight}), theirs


def kimi_delta(width: int, heads: int) -> Pair:
    """Heads of 128 channels."""
    config = KimiLinearConfig(
        hidden_size=width, num_hidden_layers=1, linear_num_heads=heads, layer_types=["linear_attention"]
    )
    theirs = random(KimiLinearDeltaAttention(config, 0))
    norm = spec.GatedNorm(eps=1e-5, act="sigmoid")
    ours = make(spec.KimiDelta(heads=heads, head_dim=128, gate_rank=128, conv=CONV, norm=norm), width)
    names = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "beta": "b_proj", "gate_a": "g_a_proj", "gate_b": "g_b_proj"}
    for name, other in (names | {"o": "o_proj", "norm": "o_norm"}).items():
        fill(ours, {f"{name}.weight": theirs.get_submodule(other).weight})
    gate = theirs.forget_gate
    fill(ours, {"decay_a.weight": gate.f_a_proj.weight, "decay_b.weight": gate.f_b_proj.weight})
    return fill(ours, {"conv": theirs.conv1d.weight, "A_log": gate.A_log.flatten(), "dt_bias": gate.dt_bias}), theirs


def mamba2(width: int, heads: int) -> Pair:
    """Heads of 64 channels, memories of 128."""
    config = Mamba2Config(
        hidden_size=width, num_heads=heads, head_dim=64, n_groups=1, expand=heads * 64 // width, num_hidden_layers=1
    )
    return same_mamba(Mamba2Mixer(config, 0), width, heads, 1)


def nemotron(width: int, heads: int, groups: int) -> Pair:
    """Heads of 64 channels, memories of 128."""
    config = NemotronHConfig(
        hidden_size=width, mamba_num_heads=heads, n_groups=groups, layers_block_type=["linear_attention"]
    )
    return same_mamba(NemotronHMamba2Mixer(config, 0), width, heads, groups)


def same_mamba(theirs: nn.Module, width: int, heads: int, groups: int) -> Pair:
    random(theirs)
    ours = make(
        spec.Mamba2(
            heads=heads,
            head_dim=64,
            groups=groups,
            state_dim=128,
            conv=spec.Convolution(kernel=4, act="silu", bias=True),
            norm=spec.GatedNorm(eps=1e-5, gate_first=True, groups=groups),
            dt_limit=(theirs.time_step_limit[0], None),
        ),
        width,
    )
    fill(ours, {f"{name}.weight": theirs.get_submodule(name).weight for name in ("in_proj", "out_proj", "norm")})
    fill(ours, {name: getattr(theirs, name) for name in ("A_log", "dt_bias", "D")})
    return fill(ours, {"conv": theirs.conv1d.weight, "conv_bias": theirs.conv1d.bias}), theirs


SMALL: dict[str, Callable[[], Pair]] = {
    "Gated DeltaNet, 4 heads": lambda: gated_delta_net(512, 4, 4),
    "Kimi Delta Attention, 4 heads": lambda: kimi_delta(512, 4),
    "Mamba-2, 16 heads": lambda: mamba2(512, 16),
}
LARGE: dict[str, Callable[[], Pair]] = {
    "Gated DeltaNet of Qwen3-Next": lambda: gated_delta_net(2048, 16, 32),
    "Kimi Delta Attention of Kimi Linear": lambda: kimi_delta(2304, 32),
    "Mamba-2 of Nemotron 3 Nano": lambda: nemotron(2688, 64, 8),
}


@torch.no_grad()
def random(module: nn.Module) -> nn.Module:
    """Weights of an ordinary size; decays as the module begins with them."""
    for name, value in module.named_parameters():
        if value.ndim > 1 and not name.endswith("A_log"):
            value.normal_(0, 0.3 if "conv" in name else value.shape[-1] ** -0.5)
        elif name.endswith("A_log"):
            value.copy_(torch.empty_like(value).uniform_(1, 16).log())
        elif name.endswith("dt_bias"):
            value.uniform_(-6.9, -2.2)
        else:
            value.fill_(1.0)
    return module.eval()


@torch.no_grad()
def fill(module: nn.Module, values: dict[str, Tensor]) -> nn.Module:
    parameters = dict(module.named_parameters())
    for name, value in values.items():
        parameters[name].copy_(value)
    return module


def delta_rules(tokens: int, per_channel: bool) -> Runs:
    """The delta rule alone, with a decay for each head or for each channel."""
    q, k = (F.normalize(torch.randn(1, tokens, 4, 128), dim=-1) for _ in range(2))
    v, beta = torch.randn(1, tokens, 4, 128), torch.rand(1, tokens, 4)
    decay = -torch.rand(1, tokens, 4, *[128] * per_channel)
    theirs = chunk_kimi_delta_attention if per_channel else torch_chunk_gated_delta_rule
    given = [x.transpose(1, 2) for x in (q * 128**-0.5, k, v, decay, beta)]
    memory = torch.zeros(1, 4, 128, 128)
    return lambda: delta_rule(*given, memory)[0].transpose(1, 2), lambda: theirs(q, k, v, decay, beta)[0]


def state_spaces(tokens: int) -> Runs:
    """The state space alone."""
    x, dt, a = torch.randn(1, tokens, 16, 64), torch.rand(1, tokens, 16), -torch.rand(16)
    b, c = torch.randn(1, tokens, 1, 128), torch.randn(1, tokens, 1, 128)
    given = [y.transpose(1, 2) for y in (c, b, x * dt[..., None], a * dt)]
    memory = torch.zeros(1, 16, 128, 64)
    return lambda: state_space(*given, memory)[0].transpose(1, 2), lambda: mamba2_chunk_scan(x, dt, a, b, c, 256)


RECURRENCES: dict[str, Callable[[int], Runs]] = {
    "Gated delta rule alone": lambda tokens: delta_rules(tokens, per_channel=False),
    "Kimi's delta rule alone": lambda tokens: delta_rules(tokens, per_channel=True),
    "Mamba-2's state space alone": state_spaces,
}


def layers(pair: Pair, tokens: int) -> Runs:
    ours, theirs = pair
    x = torch.randn(1, tokens, ours.width)
    return lambda: ours(x, Call(new_positions(tokens, None, x.device), None, None)), lambda: theirs(x)


def measure(runs: Runs, turns: int) -> dict[str, float]:
    with torch.inference_mode():
        a, b = (run() for run in runs)
        gap = float((a - b).abs().max() / b.abs().max())
        assert gap < 1e-4, f"the layers differ by {gap}"
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(turns):
            for run, spent in zip(runs, times, strict=True):
                start = time.perf_counter()
                run()
                spent.append(time.perf_counter() - start)
    own, reference = (statistics.median(spent) for spent in times)
    return {"ours_ms": own * 1e3, "reference_ms": reference * 1e3, "ratio": reference / own, "difference": gap}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--large", action="store_true", help="layers of real models too (minutes, 20 GB of memory)")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    rows = [
        {"layer": name, "tokens": tokens} | measure(make_runs(tokens), arguments.turns)
        for name, make_runs in RECURRENCES.items()
        for tokens in TOKENS
    ]
    for name, layer in (SMALL | (LARGE if arguments.large else {})).items():
        pair = layer()
        for tokens in TOKENS:
            rows.append({"layer": name, "tokens": tokens} | measure(layers(pair, tokens), arguments.turns))
    about = {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__}
    about |= {"threads": torch.get_num_threads(), "dtype": "float32", "turns": arguments.turns}
    if arguments.json:
        print(json.dumps(about | {"rows": rows}, indent=2))
        return
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    for row in rows:
        print(
            "{layer:36s} {tokens:5d} tokens: ours {ours_ms:9.1f} ms, transformers {reference_ms:9.1f} ms, "
            "ratio {ratio:6.2f}".format(**row)
        )


if __name__ == "__main__":
    main()
