"""What is to be seen of a run and of the GPUs, read from events, processes and NVML."""
