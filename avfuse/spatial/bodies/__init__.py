"""Paths of bodies, and what sits on them: trajectories, trackers, gyroscopes, cameras."""
