"""Stands in for torch.distributed.run: starts ranks in sessions of their own, and ends them on SIGTERM."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

FAILURE = """============================================================
runtime.train FAILED
------------------------------------------------------------
Failures:
  <NO_OTHER_FAILURES>
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-22_12:00:00
  host      : node
  rank      : {rank} (local_rank: {rank})
  exitcode  : {code} (pid: {pid})
  error_file: <N/A>
  traceback : To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html
============================================================"""


def main():
    arguments = sys.argv[1:]
    count = next(int(word.split("=")[1]) for word in arguments if word.startswith("--nproc-per-node="))
    command = arguments[arguments.index("--no-python") + 1 :]
    assert command[-3:-1] == ["-m", "runtime.train"], command
    command[-3:] = [str(Path(__file__).with_name("rank.py")), command[-1]]
    ranks = [
        subprocess.Popen(
            command, start_new_session=True, env={**os.environ, "RANK": str(rank), "WORLD_SIZE": str(count)}
        )
        for rank in range(count)
    ]

    def on_term(signum, frame):
        for rank in ranks:
            rank.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline and any(rank.poll() is None for rank in ranks):
            time.sleep(0.01)
        if "stubborn" not in os.environ.get("FAKE_RANK", ""):
            for rank in ranks:
                rank.kill()
        sys.exit(1)

    signal.signal(signal.SIGTERM, on_term)
    while any(rank.poll() is None for rank in ranks):
        failed = [(number, rank) for number, rank in enumerate(ranks) if rank.poll() not in (None, 0)]
        if failed:
            break
        time.sleep(0.01)
    failed = [(number, rank) for number, rank in enumerate(ranks) if rank.poll() not in (None, 0)]
    if failed:
        number, first = failed[0]
        for rank in ranks:
            rank.terminate()
            rank.wait()
        print(FAILURE.format(rank=number, code=first.returncode, pid=first.pid), file=sys.stderr)
        sys.exit(1)


main()
