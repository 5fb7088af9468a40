"""What infer.py writes, and how it survives being killed."""
