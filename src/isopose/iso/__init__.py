"""Inference stage optimisation (paper 3.5) and the calibration of 2D confidence."""
