"""What this machine, or a recorded or pasted one, is: NVML, nvidia-smi and psutil become a Node."""
