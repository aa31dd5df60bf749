"""The bundled trainer: a Llama-style decoder, exact ring attention, FSDP2. Imports nothing of cpadvisor."""
