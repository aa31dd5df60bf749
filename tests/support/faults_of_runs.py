"""Faults planted in a sound run, and what the doctor is to say of each."""

from dataclasses import replace

from sound_subjects import RING_BYTES

from cpadvisor.watch.failure import Failure
from cpadvisor.watch.monitor import Monitor


def grown(run):
    for rank in (0, 1):
        run.started(rank)
        for number in range(1, 13):
            run.stepped(rank, number, loss=4.0 if number < 5 else 9.0)
    return run


def steps(run, **changes):
    for rank in (0, 1):
        run.started(rank)
        for number in range(1, 6):
            run.stepped(rank, number, **changes)
        run.ended(rank)
    return run


def spiked(run):
    for rank in (0, 1):
        run.started(rank)
        for number in range(1, 6):
            run.stepped(rank, number, grad_norm=500.0 if number == 4 else 1.0, loss=5.0 if number < 5 else 5.5)
    return run


def uneven(run, **of_rank_1):
    run.started(0)
    run.started(1, **of_rank_1)
    run.stepped(0, 1)
    return run


def exchanged(run, *, method="ring", **told):
    """Steps of rank 0 whose exchanges are told so."""
    run.started(0, cp_method=method)
    for number in range(1, 6):
        run.stepped(0, number, sent=None)
        run.event(0, 1.0 + 2 * number, "nccl", step=number, group="cp", count=6, **told)
    return run


def silent_ring(run):
    for rank in (0, 1):
        run.started(rank)
        run.stepped(rank, 1, sent=RING_BYTES[rank] if rank == 0 else RING_BYTES[rank] // 2)
    return run


def with_log(run, line):
    (run.directory / "nccl-rank0.log").write_text(f"host:1:1 [0] NCCL INFO {line}\n" * 24)
    return run.whole()


def told(run, rule, message):
    run.whole()
    run.event(0, 3.0, "warning", rule=rule, message=message)
    return run


def fat(run):
    run.whole()
    run.event(1, 4.0, "memory", peak_allocated_bytes=900_000_000)
    return run


def failed(kind, **fields):
    """A view whose failure the watcher has told."""

    def plant(run):
        run.whole()
        view = Monitor(run.directory).poll()
        state = "out_of_memory" if kind == "out_of_memory" else "hung" if kind == "hung" else "failed"
        return replace(view, state=state, failure=Failure(kind=kind, **fields))

    return plant


def steps_with(run, **start):
    for rank in (0, 1):
        run.started(rank, **start)
        run.stepped(rank, 1)
    return run


# (name, what happened, rule, severity, rows of the card, what the evidence shows)
OF_A_RUN = [
    (
        "a GPU ran out",
        failed(
            "out_of_memory", headline="rank 1 ran out of GPU memory", evidence=("asked for 2.0 GiB",), mend="halve it"
        ),
        "failure",
        "error",
        ("D1", "L3"),
        "asked for 2.0 GiB",
    ),
    (
        "the loss is NaN",
        failed("not_a_number", headline="the loss of step 3 is nan", evidence=("loss nan at step 3",)),
        "failure",
        "error",
        ("D3", "C8"),
        "step 3",
    ),
    (
        "a rank hangs",
        failed("hung", headline="ranks wait for rank 1", evidence=("rank 1 at ring.py:88",)),
        "failure",
        "error",
        ("L4",),
        "ring.py:88",
    ),
    ("memory above its prediction", fat, "memory", "warning", ("D1", "L3"), "858 MiB"),
    ("three times as slow", lambda run: steps(run, step_s=6.5), "speed", "warning", ("D2",), "6.50 s"),
    (
        "steps wait for data",
        lambda run: steps(run, split_s={"data": 1.0, "forward": 1.0}),
        "split-time",
        "warning",
        ("D2",),
        "data 50 %",
    ),
    (
        "a slower kernel",
        lambda run: told(run, "slower_kernel", "cudnn does not run here: no engine"),
        "kernel",
        "warning",
        ("D2",),
        "no engine",
    ),
    (
        "padding",
        lambda run: told(run, "padding", "83% of all positions are padding"),
        "padding",
        "warning",
        ("D2",),
        "83%",
    ),
    ("the loss grows", grown, "loss", "warning", ("D3",), "9.0000"),
    ("the loss rises after a spike of the gradient", spiked, "loss", "warning", ("D3",), "500 at most"),
    ("a loss that is no number", lambda run: steps(run, loss=None), "loss", "error", ("D3",), "no loss was a number"),
    (
        "unequal parts",
        lambda run: uneven(run, local_tokens=2048),
        "local-length",
        "error",
        ("D4", "D5", "L4"),
        "rank 1 2,048",
    ),
    (
        "a part that is not the whole",
        lambda run: steps_with(run, local_tokens=8192),
        "local-length",
        "error",
        ("D5",),
        "8,192",
    ),
    (
        "a rank without exchange",
        lambda run: uneven(run, cp_method="none"),
        "cp-on",
        "error",
        ("D5", "L4"),
        "none, ring",
    ),
    ("half of the ring's bytes", silent_ring, "ring-bytes", "error", ("D5", "L4"), "5,242,880 bytes"),
    (
        "attention that waits for K and V",
        lambda run: exchanged(run, op="send_recv", bytes=RING_BYTES[0], wire_s=1.0, exposed_s=0.5),
        "cp-waiting",
        "warning",
        ("D2", "L2"),
        "rank 0 waits 500 ms of 1.00 s on the wire, 25 % of a step of 2.00 s",
    ),
    (
        "a rank that exchanges no heads",
        lambda run: exchanged(run, method="ulysses", op="all_to_all", bytes=0, wire_s=None, exposed_s=None),
        "cp-bytes.all_to_all",
        "error",
        ("D5", "L4"),
        "rank 0 sent 0 B",
    ),
    (
        "hops through host memory",
        lambda run: with_log(run, "Channel 00/0 : 0[0] -> 1[1] via SHM/direct/direct"),
        "ring-transport",
        "warning",
        ("D2", "L2"),
        "24 channels via SHM/direct",
    ),
    (
        "hops through the network",
        lambda run: with_log(run, "Channel 00/0 : 0[0] -> 1[1] [send] via NET/Socket/0"),
        "ring-transport",
        "warning",
        ("D2", "L2"),
        "24 channels via NET/Socket",
    ),
]
