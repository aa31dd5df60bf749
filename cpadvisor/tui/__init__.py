"""The app: screens over the same functions that the headless commands call. Nothing below imports textual."""
