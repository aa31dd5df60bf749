"""A run as text: where it stands, each figure beside its prediction."""

from cpadvisor.report.table import table
from cpadvisor.units import DASH, format_bytes, format_count, format_seconds, format_tokens
from cpadvisor.watch.figures import median_tail
from cpadvisor.watch.report import last_value
from cpadvisor.watch.view import RunView


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
        ("peak memory", format_bytes(view.peak_bytes), format_bytes(expected.get("peak_bytes"))),
        ("step", format_seconds(median_tail(view.step_s)), format_seconds(expected.get("step_s"))),
        (
            "tok/s/GPU",
            format_count(median_tail(view.tokens_per_s_per_gpu)),
            format_count(expected.get("tokens_per_s_per_gpu")),
        ),
    ]


def view_text(view: RunView) -> str:
    """A run's whole state for people."""
    reason = f": {view.reason}" if view.reason else ""
    lines = [
        f"{view.run}  {view.state}{reason}",
        f"{view.model}, {format_tokens(view.sequence_len)} tokens, {view.layout_label}, {view.world} ranks",
        step_text(view),
        table(("", "measured", "predicted"), comparison_rows(view), right=frozenset({1, 2})),
    ]
    lines += [f"warning: {warning}" for warning in view.warnings]
    return "\n".join(lines)


def runs_table(views: list[RunView]) -> str:
    """One line a run."""
    rows = [
        (view.run, view.state, progress_label(view), loss_label(view), format_bytes(view.peak_bytes)) for view in views
    ]
    return table(("run", "state", "step", "loss", "peak"), rows, right=frozenset({2, 3, 4}))
