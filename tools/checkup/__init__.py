"""Parts of tools/check_dataset.py: inspection, duplicates, tables, pictures."""
