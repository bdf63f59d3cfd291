"""Occlusion: Cylinder Man labels (paper 3.4) and the training augmentations (paper 3.3)."""
