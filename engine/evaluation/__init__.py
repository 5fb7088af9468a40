"""Metrics, exact and the same on any number of processes."""
