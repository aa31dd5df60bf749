"""The Python that trains is one that has torch: --python, this one, $VIRTUAL_ENV's or $CONDA_PREFIX's.

cpadvisor may live in another environment than torch, and never imports it: a
child of each interpreter says what it could import.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from cpadvisor.errors import MissingError, UsageError

TRAINER_MODULES = ("torch", "yaml", "safetensors")
AXOLOTL_MODULES = ("torch", "axolotl")
OLDEST = (3, 11)
_TIMEOUT_S = 30

_QUESTION = (
    "import importlib.util, json, sys; "
    "print(json.dumps([list(sys.version_info[:2]), [m for m in sys.argv[1:] if importlib.util.find_spec(m) is None]]))"
)


def modules_of(engine: str) -> tuple[str, ...]:
    """What an interpreter must have to train with this engine."""
    return TRAINER_MODULES if engine == "cpadvisor" else AXOLOTL_MODULES


def find_python(
    explicit: str | None = None,
    *,
    modules: tuple[str, ...] = TRAINER_MODULES,
    preferred: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> str:
    """The first interpreter that has all `modules`; an explicit one is taken or refused, never passed over.

    `preferred` is asked before the others, and passed over where it has gone or lacks something.
    Raises MissingError with what each one lacks and the command that mends it, UsageError for an empty explicit one.
    """
    if explicit is not None and not explicit.strip():
        raise UsageError("--python is empty; name an interpreter that has torch, or leave it out")
    candidates = [_resolve(explicit)] if explicit else list(dict.fromkeys(_candidates(environ, preferred)))
    lacks: list[str] = []
    for python in candidates:
        lack = _lack(python, modules)
        if lack is None:
            return python
        lacks.append(f"  {python}: {lack}")
    raise MissingError("\n".join((_headline(modules), *lacks, _mend(candidates[0], modules, explicit=bool(explicit)))))


def _candidates(environ: Mapping[str, str], preferred: str | None) -> Iterator[str]:
    if preferred and Path(preferred).exists():
        yield preferred
    yield sys.executable
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if environ.get(variable):
            python = Path(environ[variable]) / "bin" / "python"
            if python.exists():
                yield str(python)


def _resolve(explicit: str) -> str:
    """A name on PATH, or a path made absolute: the child starts in the run directory.

    Symbolic links are left alone, because an environment's interpreter is one.
    """
    found = shutil.which(Path(explicit).expanduser())
    return str(Path(found or explicit).expanduser().absolute())


def _lack(python: str, modules: tuple[str, ...]) -> str | None:
    """What this interpreter lacks in words; None where it has all."""
    try:
        child = subprocess.run(
            [python, "-c", _QUESTION, *modules],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            env={**os.environ, "PYTHONSAFEPATH": "1"},
            check=True,
        )
        version, missing = json.loads(child.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return f"gave no answer in {_TIMEOUT_S} s"
    except OSError as error:
        return error.strerror or str(error)
    except (subprocess.CalledProcessError, ValueError, IndexError):
        return "is no Python that works"
    if tuple(version) < OLDEST:
        return f"is Python {version[0]}.{version[1]}; the trainer needs {OLDEST[0]}.{OLDEST[1]} or newer"
    return f"has no {', '.join(missing)}" if missing else None


def _headline(modules: tuple[str, ...]) -> str:
    if "axolotl" in modules:
        return "this file is for axolotl (it has no cpadvisor block), and no interpreter has axolotl; tried:"
    return f"no interpreter has what training needs ({', '.join(modules)}); tried:"


def _mend(python: str, modules: tuple[str, ...], *, explicit: bool) -> str:
    package = "axolotl" if "axolotl" in modules else "'cpadvisor[train]'"
    other = "another --python" if explicit else "--python PATH for an interpreter that has them"
    return f"install with `{python} -m pip install {package}`, or give {other}"
