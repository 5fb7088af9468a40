"""The garment detector: its network, training task and inference."""
