"""Hydra's configuration becomes frozen specs, once: a schema for each verb and the translation to specs."""
