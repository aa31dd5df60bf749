"""What a rank tells the outside: events, one line a step, and how it ended, exactly once.

SIGTERM is answered by a thread of its own, because the main thread may hang in
a collective for ever: it writes the `end` event and leaves at once.
"""

import os
import resource
import signal
import threading
import time
from pathlib import Path

import torch

from runtime.telemetry import EventWriter

HEARTBEAT_S = 5.0
SIGTERM_STATUS = 128 + signal.SIGTERM
"""Exit status by the shell's convention for a process that a signal ended."""


class Reporter:
    """Events of one rank."""

    def __init__(self, run_dir: Path, *, rank: int) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        self._events = EventWriter(run_dir, rank)
        self._lock = threading.RLock()
        self._ended = False
        self._last = 0.0
        self._rank = rank
        self.step = 0

    def emit(self, kind: str, **fields: object) -> None:
        """Write one event, unless the end was written."""
        with self._lock:
            if not self._ended:
                self._events.emit(kind, **fields)
                self._last = time.monotonic()

    def heartbeat(self) -> None:
        """Say that the main thread came by, if nothing was said for some seconds."""
        if time.monotonic() - self._last > HEARTBEAT_S:
            self.emit("heartbeat", step=self.step)

    def warn(self, rule: str, message: str) -> None:
        """A warning event, on standard output too from rank 0."""
        self.emit("warning", rule=rule, message=message)
        self.say(f"warning: {message}")

    def say(self, line: str) -> None:
        """One line on standard output, from rank 0 alone."""
        if self._rank == 0:
            print(line, flush=True)

    def end(self, state: str, reason: str | None = None) -> None:
        """The last event: done, failed or stopped. Later calls and events write nothing."""
        with self._lock:
            self.emit("end", state=state, reason=reason, step=self.step)
            self._ended = True

    def stop_on_sigterm(self) -> None:
        """From now on SIGTERM writes `end` stopped and ends the process. The main thread calls it."""
        readable, writable = os.pipe()
        os.set_blocking(writable, False)
        # Python's own handler writes the signal's number here at once, whatever the main thread does.
        signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda *_: None)
        threading.Thread(target=self._await_sigterm, args=(readable,), name="sigterm", daemon=True).start()

    def _await_sigterm(self, readable: int) -> None:
        while signal.SIGTERM not in os.read(readable, 16):
            pass
        self.end("stopped", f"SIGTERM at step {self.step}")
        os._exit(SIGTERM_STATUS)


def memory(device: torch.device) -> dict[str, int]:
    """Bytes now and at their peak: torch's allocator on a GPU, the process's resident memory on a CPU."""
    if device.type == "cuda":
        stats = torch.cuda.memory_stats(device)
        return {
            "allocated_bytes": stats.get("allocated_bytes.all.current", 0),
            "reserved_bytes": stats.get("reserved_bytes.all.current", 0),
            "peak_allocated_bytes": stats.get("allocated_bytes.all.peak", 0),
            "peak_reserved_bytes": stats.get("reserved_bytes.all.peak", 0),
        }
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    resident = pages * resource.getpagesize()
    # The kernel brings its high-water mark up to date now and then, so the present size can lie above it.
    peak = max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, resident)
    return {
        "allocated_bytes": resident,
        "reserved_bytes": resident,
        "peak_allocated_bytes": peak,
        "peak_reserved_bytes": peak,
    }


def process_start_ticks() -> int | None:
    """When this process started, in clock ticks since boot: with the pid it names the process for good."""
    try:
        # Field 22; the name in field 2 may hold blanks, so count after its closing bracket.
        return int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
