"""cpadvisor: how to split a long-context training over the GPUs of a node, and proof by running it."""

__version__ = "0.1.0"
