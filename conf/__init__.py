"""The Hydra tree, packaged as optimize.conf."""
