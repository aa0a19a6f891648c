"""The `rivet-ray` command."""

from rivet_ray.cli.main import main

__all__ = ["main"]
