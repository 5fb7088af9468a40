"""One module per annotation format, and shared ones: checks, parallel work, the cache."""
