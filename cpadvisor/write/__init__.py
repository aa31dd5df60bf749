"""A plan as a file: a config of a trainer, its command, its job script. Pure: text in, text out."""
