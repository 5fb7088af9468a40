"""Helpers of ``tools/export_model.py``."""
