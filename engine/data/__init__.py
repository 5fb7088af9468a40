"""Datasets in memory: records, readers of annotation formats, label spaces."""
