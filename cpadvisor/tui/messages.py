"""What a worker posts when it ends: one frozen part of the session, or why there is none."""

from textual.message import Message


class Finished(Message):
    """A stage gave its part."""

    def __init__(self, stage: str, part: object) -> None:
        super().__init__()
        self.stage = stage
        self.part = part


class Failed(Message):
    """A stage could not give its part; the message is for the user."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__()
        self.stage = stage
        self.reason = reason
