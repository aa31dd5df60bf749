"""Widgets that draw one frozen value each; none of them reads a file, a clock or the machine."""
