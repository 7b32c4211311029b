"""How a model lies on many devices: what each kind of axis allows, the plan that follows, and what devices exchange.

Every axis says how it may be cut (`spec.Axis`), every part what must be exchanged when it is (`Spec.exchanges`). From
these and a `Layout` follows one `ShardingPlan`: `cost` prices it, training applies it.
"""

from .cutting import RULES, Rule, fullest, on_one, parts, share, share_of
from .exchange import Collective, exchanges, sent
from .layout import Layout, MeshDimension, whole
from .plan import (
    ModulePlacement,
    Placement,
    Replicate,
    Shard,
    ShardingPlan,
    StatePlacement,
    WeightPlacement,
    plan,
    stage_of,
)

__all__ = [
    "RULES",
    "Collective",
    "Layout",
    "MeshDimension",
    "ModulePlacement",
    "Placement",
    "Replicate",
    "Rule",
    "Shard",
    "ShardingPlan",
    "StatePlacement",
    "WeightPlacement",
    "exchanges",
    "fullest",
    "on_one",
    "parts",
    "plan",
    "sent",
    "share",
    "share_of",
    "stage_of",
    "whole",
]
