"""The facts of each stage as plain text: what the headless commands print for people."""
