"""The CPU engine: a spec and a checkpoint become a flat plan, which a small C++ library runs. No torch.

The lowerings (lowering/) mirror the spec's files; the library (cpp/) has a plain C interface and is optional: without
it, and for parts that have no native form, the torch models do everything.
"""
