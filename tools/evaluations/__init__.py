"""Parts of ``tools/evaluate.py``: one module for each kind of evaluation."""
