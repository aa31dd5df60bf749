"""A run that lives as long as the test."""

from living_runs import record

__all__ = ["record"]
