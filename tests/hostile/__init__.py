"""Hostile inputs for the native engine, each known by its number: plans, steps, packing, files. See tests/fuzz.py."""
