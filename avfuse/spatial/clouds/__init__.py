"""Clouds of points onto one another."""
