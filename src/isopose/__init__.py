"""Multi-scale networks for 3D human pose estimation with inference stage optimisation, as a reproducible workflow."""

__version__ = "0.1.0"
