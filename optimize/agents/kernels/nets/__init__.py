"""Forward passes, gradients and optimizers of the agents' networks, compiled."""
