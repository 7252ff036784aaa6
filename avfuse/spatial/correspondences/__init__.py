"""Pairs of points: which belong together, and the transforms that most of them agree with."""
