"""What a network costs and sees: FLOPs, receptive fields, graphs."""
