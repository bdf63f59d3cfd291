"""Training of the 2D estimator and of the lifter with its discriminator."""
