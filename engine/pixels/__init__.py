"""Photos, geometry, masks, crops and views: everything done to pixels outside a network."""
