"""Fusion: what alignment is worth, other rates, missing streams, co-learning, and how fast all of it is."""
