"""Differential attention, a noun of its own: see spec.py."""
