"""A run as text: where it stands, each figure beside its prediction."""

from cpadvisor.report.failure import failure_text
from cpadvisor.report.table import table
from cpadvisor.units import DASH, format_bytes, format_change, format_count, format_seconds, format_tokens
from cpadvisor.watch.figures import expected_peak_bytes, measured, median_tail
from cpadvisor.watch.report import last_value
from cpadvisor.watch.view import Exchange, RunView, state_label

EXCHANGES = {"send_recv": "ring", "all_gather": "gathered", "all_to_all": "heads"}
"""What an operation of context parallelism moves, in a word."""


def step_text(view: RunView) -> str:
    """The newest step in one line: `step 12/50  loss 3.214  1,930 tok/s/GPU  2.1 s`."""
    return (
        f"step {progress_label(view)}  loss {loss_label(view)}  "
        f"{format_count(last_value(view.tokens_per_s_per_gpu))} tok/s/GPU  {format_seconds(last_value(view.step_s))}"
    )


def progress_label(view: RunView) -> str:
    """`12/50`: the last finished step of all."""
    return f"{view.step or 0}/{view.steps or DASH}"


def loss_label(view: RunView) -> str:
    """The newest loss with four digits after the point."""
    return format_loss(last_value(view.loss))


def first_loss(view: RunView) -> float | None:
    """The loss of the first step."""
    return view.loss[0][1] if view.loss else None


def format_loss(value: float | None) -> str:
    """Four digits after the point; the unknown is a dash."""
    return DASH if value is None else f"{value:.4f}"


def comparison_rows(view: RunView) -> list[tuple[str, str, str]]:
    """Measured beside predicted: the first loss, memory, seconds a step, tokens/s/GPU."""
    expected = view.prediction or {}
    return [
        ("first loss", format_loss(first_loss(view)), format_loss(expected.get("first_loss"))),
        ("peak memory", format_bytes(view.peak_bytes), format_bytes(expected_peak_bytes(expected))),
        ("step", format_seconds(median_tail(view.step_s)), format_seconds(expected.get("step_s"))),
        (
            "tok/s/GPU",
            format_count(median_tail(view.tokens_per_s_per_gpu)),
            format_count(expected.get("tokens_per_s_per_gpu")),
        ),
    ]


def exchange_label(exchange: Exchange) -> str:
    """`ring 2.1 GB, wire 12.3 ms, exposed 0.4 ms`; a time that was not taken is left out."""
    times = [("wire", exchange.wire_s), ("exposed", exchange.exposed_s)]
    told = [f"{name} {format_seconds(seconds)}" for name, seconds in times if seconds is not None]
    return ", ".join([f"{EXCHANGES.get(exchange.op, exchange.op)} {format_bytes(exchange.sent_bytes)}", *told])


def resumed_text(view: RunView) -> str:
    """Where a run that ended as `view` shows goes on, and which of its steps are made again."""
    last, kept = view.step or 0, view.checkpoint_step
    if kept is None:
        again = f": its steps up to {last} are made again" if last else ""
        return f"{view.run} has kept no checkpoint and begins anew{again} (save_strategy: steps keeps some)"
    again = f": steps {kept + 1} to {last} are made again" if last > kept else ""
    return f"{view.run} goes on from its checkpoint of step {kept}{again}"


def view_text(view: RunView) -> str:
    """A run's whole state for people."""
    reason = f": {view.reason}" if view.reason and view.failure is None else ""
    ranks = f"{view.world} rank{'' if view.world == 1 else 's'}"
    lines = [
        f"{view.run}  {state_label(view.state)}{reason}",
        f"{view.model}, {format_tokens(view.sequence_len)} tokens, {view.layout_label}, {ranks}",
        step_text(view),
        table(("", "measured", "predicted"), comparison_rows(view), right=frozenset({1, 2})),
    ]
    if view.exchanges:
        lines.append("; ".join(map(exchange_label, view.exchanges)))
    lines += [f"warning: {warning}" for warning in view.warnings]
    lines += [f"note: {note}" for note in view.notes]
    if view.failure is not None:
        lines += ["", failure_text(view)]
    return "\n".join(lines)


def runs_table(views: list[RunView]) -> str:
    """One line a run, with the errors of its prediction: `+5 %` is 5 % more than predicted."""
    headers = ("run", "state", "step", "loss", "tok/s/GPU", "peak", "peak err", "step err")
    return table(headers, [_runs_row(view) for view in views], right=frozenset(range(2, len(headers))))


def _runs_row(view: RunView) -> tuple[str, ...]:
    figures = measured(view)
    return (
        view.run,
        state_label(view.state),
        progress_label(view),
        loss_label(view),
        format_count(figures.tokens_per_s_per_gpu),
        format_bytes(view.peak_bytes),
        format_change(figures.peak_error),
        format_change(figures.step_error),
    )
