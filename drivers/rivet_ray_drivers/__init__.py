"""Storage drivers of rivet_ray; each sees only the store ports (floors 0 and 1)."""
