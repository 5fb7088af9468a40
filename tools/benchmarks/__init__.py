"""Parts of ``tools/benchmark.py``: the reference, and one module for each kind of work."""
