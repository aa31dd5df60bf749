"""Measurements beside their alternative, in one run, as ratios. `make bench` runs all that this machine can."""
