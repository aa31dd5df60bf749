"""The README says what there is: every module stands in its tree, every command line parses."""

import re
import shlex
from pathlib import Path

import pytest

from cpadvisor import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TREE = README.split("<!-- tree -->")[1]


def documented_modules():
    """Modules of the packages, by their path."""
    for package in ("cpadvisor", "runtime", "benchmarks"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.name != "__init__.py":
                yield path.relative_to(ROOT)


def listed_paths():
    """Paths of the tree, rebuilt from its indentation."""
    folders = []
    for line in TREE.splitlines():
        match = re.match(r"( *)(\S+?)(/?)(?:  |$)", line)
        if match is None or line.startswith("```"):
            continue
        depth = len(match[1]) // 2
        folders[depth:] = [match[2]]
        yield "/".join(folders)


@pytest.mark.parametrize("path", list(documented_modules()), ids=str)
def test_every_module_stands_in_the_tree(path):
    assert path.as_posix() in set(listed_paths())


def test_every_file_of_the_tree_is_there():
    missing = [path for path in listed_paths() if not list(ROOT.glob(path))]
    assert missing == []


def command_lines():
    """The lines of the README that call cpadvisor, without their comments."""
    for block in re.findall(r"```\n(.*?)```", README, flags=re.DOTALL):
        for line in block.splitlines():
            call = re.search(r"(?:^|\| )cpadvisor [a-z].*", line.split("#")[0])
            if call:
                yield call[0].removeprefix("| ").strip()


@pytest.mark.parametrize("line", list(command_lines()))
def test_every_command_line_parses(line):
    args = cli._parser().parse_args(shlex.split(line)[1:])
    assert args.command in line


def test_every_command_has_a_line():
    shown = {line.split()[1] for line in command_lines()}
    commands = next(action.choices for action in cli._parser()._actions if action.dest == "command")
    assert shown == set(commands)
