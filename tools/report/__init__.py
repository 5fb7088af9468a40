"""Helpers of ``tools/model_report.py``."""
