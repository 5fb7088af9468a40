"""The HTTP server of tools/serve.py: its API, its limits and what guards it."""
