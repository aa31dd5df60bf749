import json
from pathlib import Path

from cpadvisor.report.compare import compare_json, compare_text
from cpadvisor.units import GIB
from cpadvisor.watch.compare import compare_runs
from cpadvisor.watch.view import RunView

FIRST = RunView(
    run="20261122T120000Z-tiny-1x1x1x1",
    directory=Path("/runs/a"),
    state="done",
    step=3,
    steps=3,
    loss=((1, 5.0), (2, 4.0), (3, 3.5)),
    step_s=((3, 2.5),),
    tokens_per_s_per_gpu=((3, 1930.0),),
    peak_bytes=3 * GIB,
    prediction={"peak_bytes": 4 * GIB, "step_s": 2.0},
)
SECOND = RunView(run="20261122T130000Z-tiny-1x1x1x2", directory=Path("/runs/b"), state="out_of_memory", steps=3)


def test_figures_come_first_and_then_the_keys_that_differ() -> None:
    text = compare_text(compare_runs(FIRST, SECOND, "sequence_len: 8192\n", "sequence_len: 4096\nseed: 1\n"))
    assert text.splitlines() == [
        "                         20261122T120000Z-tiny-1x1x1x1  20261122T130000Z-tiny-1x1x1x2",
        "state                                             done                  out of memory",
        "steps                                              3/3                            0/3",
        "final loss                                      3.5000                              –",
        "tok/s/GPU                                        1,930                              –",
        "step                                            2.50 s                              –",
        "peak memory                                    3.0 GiB                              –",
        "peak against prediction                          −25 %                              –",
        "step against prediction                          +25 %                              –",
        "",
        "config",
        "key           20261122T120000Z-tiny-1x1x1x1  20261122T130000Z-tiny-1x1x1x2",
        "sequence_len  8192                           4096",
        "seed          –                              1",
    ]


def test_equal_configs_and_missing_ones_are_told_apart() -> None:
    assert compare_text(compare_runs(FIRST, FIRST, "a: 1\n", "a: 1\n")).endswith("the configs are the same")
    missing = compare_text(compare_runs(FIRST, SECOND, None, "a: 1\n"))
    assert missing.endswith(f"note: {FIRST.run} has no config any more, so what differs cannot be said")


def test_programs_get_shares_and_null_for_what_is_unknown() -> None:
    shape = compare_json(compare_runs(FIRST, SECOND, "a: 1\n", "b: x\n"))
    json.dumps(shape, allow_nan=False)
    assert shape["first"] == {
        "run": FIRST.run,
        "dir": "/runs/a",
        "phase": "done",
        "step": 3,
        "steps": 3,
        "final_loss": 3.5,
        "tokens_per_s_per_gpu": 1930.0,
        "step_s": 2.5,
        "peak_bytes": 3 * GIB,
        "peak_error": -0.25,
        "step_error": 0.25,
    }
    assert shape["second"]["peak_error"] is None
    assert shape["differences"] == [
        {"key": "a", "first": "1", "second": None},
        {"key": "b", "first": None, "second": "x"},
    ]
