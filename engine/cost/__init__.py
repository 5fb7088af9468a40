"""Costs and receptive fields of networks, and the graphs to compute them."""
