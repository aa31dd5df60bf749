"""Runs without torch, through the command line."""

from fake_runs import config, fake_torch, poll_until, processes_of, runs

__all__ = ["config", "fake_torch", "poll_until", "processes_of", "runs"]
