"""The environment that holds axolotl: pinned, built once, apart from the project's own packages."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venv-axolotl"

TORCH = "torch==2.13.0"
"""Installed first and alone: the others then keep this build of torch instead of resolving their own."""

PINS = (
    TORCH,
    "transformers==5.20.1",
    "accelerate==1.15.0",
    "peft==0.21.2",
    "pydantic==2.13.5",
    "addict==2.4.0",
    "pillow",
    "PyYAML==6.0.3",
)
AXOLOTL = ("axolotl==0.21.0", "axolotl-ringmaster==0.2.7")
"""Installed alone: the schema needs no more than PINS, and works on Python 3.11 although the wheel says 3.12."""


def ready_python() -> Path:
    """The interpreter of the environment, which is built where it is missing or holds other versions."""
    python = FOLDER / "bin" / "python"
    stamp = FOLDER / "pins.txt"
    pins = "\n".join((*PINS, *AXOLOTL)) + "\n"
    if python.exists() and stamp.exists() and stamp.read_text() == pins:
        return python
    print(f"building {FOLDER.name} with {AXOLOTL[0]} (about 1.2 GB)", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(FOLDER)], check=True)
    _install(python, TORCH)
    _install(python, *PINS)
    _install(python, "--no-deps", "--ignore-requires-python", *AXOLOTL)
    stamp.write_text(pins)
    return python


def _install(python: Path, *what: str) -> None:
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what], check=True)
