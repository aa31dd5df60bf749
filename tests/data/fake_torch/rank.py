"""Stands in for a rank of the trainer; FAKE_RANK says how it behaves."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from runtime.telemetry import EventWriter

RANK = int(os.environ["RANK"])
BEHAVIOUR = os.environ.get("FAKE_RANK", "train")
STEPS = 3


def start_ticks(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def main():
    config = Path(sys.argv[1])
    print(f"rank {RANK} reads {config.name}", flush=True)
    print("to standard error", file=sys.stderr, flush=True)
    if BEHAVIOUR == "crash" and RANK == 1:
        sys.exit("ImportError: libcudnn.so.9 is not there")
    events = EventWriter(config.parent, RANK)

    def on_term(signum, frame):
        events.emit("end", state="stopped", reason="SIGTERM")
        os._exit(143)

    if BEHAVIOUR == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
    else:
        signal.signal(signal.SIGTERM, on_term)
    events.emit(
        "start",
        rank=RANK,
        world=int(os.environ["WORLD_SIZE"]),
        pid=os.getpid(),
        pid_start=start_ticks(os.getpid()),
        cp_method="ring",
        kernel="cpu",
        steps=STEPS,
    )
    step = 0
    while BEHAVIOUR in ("long", "stubborn") or step < STEPS:
        step += 1
        events.emit("memory", allocated_bytes=1000 + RANK, peak_allocated_bytes=2000 + RANK)
        if RANK == 0:
            events.emit(
                "step",
                step=step,
                loss=4.0 / step,
                grad_norm=1.5,
                step_s=0.25,
                tokens_per_s_per_gpu=512.0,
                split_s={"loss": 0.1},
            )
        if BEHAVIOUR == "fail" and RANK == 1:
            # The stand-in of torchrun ends rank 0 at once: it is to have begun by then.
            while not (config.parent / "events-rank0.jsonl").exists():
                time.sleep(0.01)
            events.emit("end", state="failed", reason="ValueError: the loss of step 1 is not a number")
            sys.exit(1)
        time.sleep(0.05)
    events.emit("end", state="done")


main()
