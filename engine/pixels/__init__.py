"""Image processing outside the networks: photos, geometry, masks, crops and views."""
