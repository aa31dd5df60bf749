"""Runs without torch; the fixtures are shared with the tests of the commands."""

from fake_runs import config, fake_torch, poll_until, processes_of, runs

__all__ = ["config", "fake_torch", "poll_until", "processes_of", "runs"]
