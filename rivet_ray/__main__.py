"""`python -m rivet_ray` is the `rivet-ray` command."""

from rivet_ray.cli import main

main()
