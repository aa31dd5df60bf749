"""Every benchmark that this machine can run: one table on stdout, bench.json beside it."""

import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import attention, gpu_kernels, planning, startup
from benchmarks.row import Row, render

SUITES = (startup, planning, attention, gpu_kernels)


def main() -> int:
    """Run the suites in order; exit status 1 where a goal is missed."""
    rows: list[Row] = []
    for suite in SUITES:
        print(f"{suite.__name__} …", file=sys.stderr, flush=True)
        rows += suite.rows()
    print(render(rows))
    report = {"schema": 1, "machine": machine(), "rows": [row.as_dict() for row in rows]}
    Path("bench.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 1 if any(row.met is False for row in rows) else 0


def machine() -> dict[str, str | None]:
    """Where the figures come from."""
    packages = {name: _version(name) for name in ("torch", "textual")}
    return {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system(), **packages}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
