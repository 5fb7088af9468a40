"""Everything that trains, runs and judges the two networks."""
