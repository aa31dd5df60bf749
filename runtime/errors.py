"""What a user can mend in a training run is a TrainerError; its message names the value, the rule and the mend."""


class TrainerError(Exception):
    """The run cannot go on, for a reason that its user can act on."""

    exit_code = 1


class ConfigError(TrainerError):
    """The config file, or a file that it names, holds what this trainer cannot run. Lists every reason at once."""

    exit_code = 2

    def __init__(self, where: str, problems: list[str]) -> None:
        self.problems = tuple(problems)
        lines = "".join(f"\n  - {problem}" for problem in problems)
        super().__init__(f"{where}: {problems[0]}" if len(problems) == 1 else f"{where}: {len(problems)} errors{lines}")
