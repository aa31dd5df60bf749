"""A file system of a few hundred kB that a test may fill: a tmpfs, mounted here or in a mount namespace of its own."""

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

_INSIDE = "CPADVISOR_TEST_IN_NAMESPACE"


def on_small_disk(request: pytest.FixtureRequest, folder: Path, kib: int, test: Callable[[Path], None]) -> None:
    """Run `test` with an empty file system of `kib` KiB at `folder`.

    Where mounting is not permitted, the whole test runs again in a user and mount namespace. Where that is not
    permitted either, it fails for root, who could have mounted it, and is skipped for others.
    """
    folder.mkdir()
    why = _mount(folder, kib)
    if why is None:
        try:
            test(folder)
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
    elif os.environ.get(_INSIDE):
        pytest.fail(f"no tmpfs can be mounted in a namespace of our own: {why}")
    else:
        _again_in_a_namespace(request, why)


def _mount(folder: Path, kib: int) -> str | None:
    """Why it could not be mounted; None where it was."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k,mode=0700", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.strip() or f"exit status {done.returncode}" if done.returncode else None


def _again_in_a_namespace(request: pytest.FixtureRequest, why: str) -> None:
    inside = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*inside, "true"], capture_output=True).returncode:
        told = f"neither `mount -t tmpfs` ({why}) nor `{' '.join(inside)}` is permitted: a full disk cannot be tested"
        if os.geteuid() == 0:
            pytest.fail(told)
        pytest.skip(told)
    test = f"{request.node.path}::{request.node.nodeid.split('::', 1)[1]}"
    command = [*inside, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    root = str(request.config.rootpath)
    again = subprocess.run(
        command, cwd=root, env={**os.environ, _INSIDE: "1"}, capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, f"in a namespace of its own:\n{again.stdout[-4000:]}\n{again.stderr[-2000:]}"


def fill(folder: Path, *, leave_kib: int = 0) -> Path:
    """Fill the file system but for `leave_kib` KiB; gives the file that fills it."""
    filler = folder / "filler"
    stats = os.statvfs(folder)
    left = stats.f_bavail * stats.f_frsize - leave_kib * 1024
    with contextlib.suppress(OSError), filler.open("ab") as file:
        file.write(b"\1" * left)
        file.flush()
    if leave_kib == 0:
        _top_up(filler)
    return filler


def _top_up(filler: Path) -> None:
    """Until not one more byte can be written."""
    descriptor = os.open(filler, os.O_WRONLY | os.O_APPEND)
    try:
        while os.write(descriptor, b"\1" * 512):
            pass
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
    finally:
        os.close(descriptor)
