"""The vocabulary of architectures: write a tree with it, edit one, or add a family.

Shape letters, the same everywhere: B batch, T tokens of this call, S positions that are seen, W width of the residual
stream, H heads, G key/value heads, D channels of a head, E experts, K experts per token, V vocabulary.
"""

from .attention import (
    Attention,
    Causal,
    Chunk,
    Everything,
    KeyValue,
    LatentAttention,
    LayerKeyValue,
    LengthTemperature,
    LogTemperature,
    LowRank,
    Mask,
    OutputGate,
    QKNorm,
    Softmax,
    UnifiedKeyValue,
    Window,
)
from .base import (
    CUTS,
    SNAPSHOTS,
    Axis,
    Cut,
    Edge,
    Exchange,
    Fixed,
    Node,
    Part,
    PerToken,
    Size,
    Spec,
    StateEntry,
    Static,
    Weight,
    linear,
    slots,
    vector,
    walk,
    width_axis,
)
from .blocks import BLOCKS
from .config import EVERYDAY, Config, shown
from .decoder import MTP, Body, Branch, Decoder, Embedding, Encoder, Head, Layer, Norm, Parallel, Scale
from .edit import New, edit, from_json, to_json
from .encoder import EncoderKeyValue, LayerBias, RelativeBias
from .family import Family
from .feedforward import (
    MLP,
    Activation,
    ClampedSwiGLU,
    ExpertGroups,
    GatedMLP,
    GaussianTopK,
    MoE,
    Router,
    ScalarGated,
)
from .indexer import Indexer, LayerIndexer
from .matformer import nested
from .names import (
    Add,
    Irregular,
    Join,
    LogDecay,
    Reorder,
    Reshape,
    Split,
    Stack,
    Step,
    Tensors,
    Transpose,
    module_names,
    spelled,
)
from .norm import GatedNorm, LayerNorm, RMSNorm, UnitNorm, WeightlessNorm
from .position import (
    LearnedPositions,
    LinearScaling,
    Llama3Scaling,
    LongRoPE,
    Proportional,
    RoPE,
    Scaling,
    YaRN,
    yarn_mscale,
)
from .recurrent import Convolution, GatedDeltaNet, KimiDelta, Mamba2, ShortConv
from .stream import (
    AltUp,
    AltUpEnds,
    Ends,
    Laurel,
    LayerScalar,
    PerLayerEmbedding,
    PerLayerInput,
    PerLayerTable,
    Residual,
)

__all__ = [name for name in dir() if not name.startswith("_")]
