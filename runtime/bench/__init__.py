"""Measures the trainer's parts on the GPUs of this machine, beside their ideal and beside what else does the same."""
