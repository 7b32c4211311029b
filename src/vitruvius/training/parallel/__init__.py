"""Training on many devices: from one line to a mesh, and from a plan to what each device holds and tells the others.

A process is one device. Those of "tensor" work on the same rows, each with its part of the heads and channels; those of
"data" have rows of their own and share out weights, gradients and optimiser states (FSDP2), those of "replicate" have
copies of all that (HSDP); whole experts are spread over so many neighbours as "expert" says.
"""

from __future__ import annotations

from .apply import clip_gradients, parallelize
from .line import ParallelLayout, mesh_of
from .team import Team

__all__ = ["ParallelLayout", "Team", "clip_gradients", "mesh_of", "parallelize"]
