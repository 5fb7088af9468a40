"""The page that the demonstration ends with."""
