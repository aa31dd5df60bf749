"""What a user can mend is a CpadvisorError: the value, the rule, the nearest value that works.

Each class carries the exit status of the command that it ends: 1 infeasible or
failed, 2 a bad flag or value, 3 an environment that lacks something.
"""

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_ENVIRONMENT = 3
EXIT_INTERRUPTED = 130


class CpadvisorError(Exception):
    """A mistake that the user can mend; the message names value, rule and mend."""

    exit_code = EXIT_FAILED


class UsageError(CpadvisorError):
    """A flag or a value that no command accepts."""

    exit_code = EXIT_USAGE


class TopologyError(UsageError):
    """Text that is not, or not safely, a topology matrix."""


class ModelError(UsageError):
    """A model that is unknown, unreadable, or of another architecture."""


class LayoutError(UsageError):
    """Sizes that do not multiply, divide or fit on the node."""


class ConfigError(UsageError):
    """A config file that cannot be read or holds a value no trainer accepts."""


class InfeasibleError(CpadvisorError):
    """No layout fits; the message names the nearest change that does."""


class WriteError(CpadvisorError):
    """A file that cannot be written; the old one is untouched."""


class LaunchError(CpadvisorError):
    """A run that could not be started, found or stopped."""


class NoSuchRunError(LaunchError):
    """A name that is no run's, or several runs'; a bad value, like that of a flag."""

    exit_code = EXIT_USAGE


class MissingError(CpadvisorError):
    """No driver, no torch, no GPU where one is needed."""

    exit_code = EXIT_ENVIRONMENT
