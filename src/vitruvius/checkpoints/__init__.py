"""Checkpoints: finding them, reading and writing their formats, and matching their names with the tree's."""
