"""The garment detector: its network, its task, its use on photos."""
