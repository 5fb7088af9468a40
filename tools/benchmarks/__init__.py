"""Parts of ``tools/benchmark.py``: the reference way, and one module for each kind of work."""
