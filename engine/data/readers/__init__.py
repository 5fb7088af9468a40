"""One module per annotation format, and what they share: checks, parallel work, the cache."""
