"""What a worker posts when it ends: one frozen part of the session, or why there is none."""

from collections.abc import Callable

from textual.message import Message

from cpadvisor.errors import CpadvisorError


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


def attempt(stage: str, work: Callable[[], object]) -> Finished | Failed:
    """Do the work of a stage; what goes wrong becomes a message, so that no error ends the app."""
    try:
        return Finished(stage, work())
    except CpadvisorError as error:
        return Failed(stage, str(error))
    except Exception as error:
        return Failed(stage, f"{stage} met an error of its own ({type(error).__name__}: {error}); please report it")
