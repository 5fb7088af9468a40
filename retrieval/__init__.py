"""What happens to features: descriptors, the database, search, metrics and protocols."""
