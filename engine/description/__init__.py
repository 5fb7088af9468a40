"""The multitask model: its network, losses and task, and how it describes garments."""
