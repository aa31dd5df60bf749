from dataclasses import replace
from pathlib import Path

import pytest
from pilot_support import SIZES, press, row_of, seen, until
from tui_support import OOM, FakeWork, run_view

from cpadvisor.tui.app import CpadvisorApp
from cpadvisor.tui.history import ReplayState
from cpadvisor.tui.i18n import Words
from cpadvisor.tui.screens.node import NodeScreen
from cpadvisor.tui.screens.run import RunScreen
from cpadvisor.tui.screens.run_lines import expected_band, rank_state, replay_label
from cpadvisor.units import GIB
from cpadvisor.watch.failure import KINDS, Failure
from cpadvisor.watch.view import FINAL_STATES, LIVE_STATES, RunView, state_label

RUN = Path("runs/20261123-tiny-1x1x1x2")
WORDS = Words("en")
HUNG = Failure(
    kind="hung",
    headline="no rank has given a sign of life for 1 min 15 s; rank 1 lags at step 11",
    rank=1,
    step=11,
    evidence=(
        "rank 1: step 11 in forward",
        "  runtime/ring.py:88 exchange",
        "rank 0: step 12 at runtime/comm.py:40 wait",
    ),
    mend="end it, then start it again",
    command="cpadvisor stop 20261123-tiny",
)


def hung() -> RunView:
    """Two ranks, the second silent for 75 s."""
    view = run_view(state="hung")
    ranks = tuple(replace(rank, last_event_t=8.0 + 60 * (1 - rank.rank), step=12 - rank.rank) for rank in view.ranks)
    return replace(view, failure=HUNG, reason=HUNG.headline, ranks=ranks, started=0.0, elapsed_s=83.0)


@pytest.mark.parametrize("state", [*LIVE_STATES, *FINAL_STATES])
async def test_every_state_has_a_mark_of_its_kind_in_the_strip_and_the_status(state: str) -> None:
    marks = {"done": "✔", "failed": "✖", "out_of_memory": "✖", "lost": "✖", "running": "●"}
    app = CpadvisorApp(FakeWork(living=RUN, views=[run_view(state=state)]))
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "4")
        mark = marks.get(state, "")
        text = await seen(pilot, f"{mark} {state_label(state)} 12/50", f"{mark} {state_label(state)}  step 12/50")
        assert state == state_label(state) or state not in text


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("launching", "no rank has spoken yet"),
        ("initialising", "build the model"),
        ("warming_up", "count for no figure"),
        ("stopping", "asked to end"),
    ],
)
async def test_a_run_on_its_way_says_what_is_waited_for(state: str, said: str) -> None:
    app = CpadvisorApp(FakeWork(living=RUN, views=[run_view(state=state)]))
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "4")
        await seen(pilot, said)


@pytest.mark.parametrize("size", SIZES)
async def test_a_failure_tells_cause_evidence_mend_and_command_before_anything_else(size: tuple[int, int]) -> None:
    view = replace(run_view(state="out_of_memory"), failure=OOM, reason=OOM.headline)
    app = CpadvisorApp(FakeWork(living=RUN, views=[view]))
    async with app.run_test(size=size) as pilot:
        await press(pilot, "4")
        text = await seen(
            pilot,
            *("Out of GPU memory", "d doctor", OOM.headline, "asked for 2.0 GiB, 0.4 GiB was free"),
            *("raise context_parallel_size from 2 to 4", "$ cpadvisor doctor 20261123T1051"),
        )
        assert text.count(OOM.headline) == 1


async def test_in_a_narrow_terminal_v_goes_from_the_failure_to_the_charts_and_back() -> None:
    view = replace(run_view(state="out_of_memory"), failure=OOM)
    app = CpadvisorApp(FakeWork(living=RUN, views=[view]))
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "4")
        await seen(pilot, "asked for 2.0 GiB")
        await press(pilot, "v")
        await seen(pilot, "4.8000 · first", absent=("asked for 2.0 GiB",))
        await press(pilot, "v", "v")
        await seen(pilot, "✖ failed first")
        await press(pilot, "v", "v")
        await seen(pilot, "asked for 2.0 GiB")


async def test_a_failure_that_comes_while_a_chart_is_seen_takes_its_place() -> None:
    work = FakeWork(living=RUN, views=[run_view(), replace(run_view(state="out_of_memory"), failure=OOM)], shown=0)
    app = CpadvisorApp(work)
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "4")
        await seen(pilot, "4.8000 · first")
        work.shown = 1
        await seen(pilot, "Out of GPU memory", absent=("4.8000 · first",))


@pytest.mark.parametrize("size", SIZES)
async def test_a_hang_shows_the_rank_that_the_others_wait_for(size: tuple[int, int]) -> None:
    app = CpadvisorApp(FakeWork(living=RUN, views=[hung()]))
    async with app.run_test(size=size) as pilot:
        await press(pilot, "4")
        await seen(pilot, "▲ hung", "The run hangs", "rank 1 lags at", "runtime/ring.py:88 exchange")
        assert app.session.is_running
        if size[0] == 80:
            await press(pilot, "v", "v", "v")
        text = await seen(pilot, "▲ others wait · silent 1 min 15 s")
        assert row_of(text, "others wait").split()[1] == "1"


async def test_notes_of_the_directory_stand_below_the_status() -> None:
    view = replace(run_view(), notes=("its events have version 2, and this cpadvisor knows 1",))
    app = CpadvisorApp(FakeWork(living=RUN, views=[view]))
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "4")
        await seen(pilot, "○ its events have version 2, and this cpadvisor knows 1")


async def test_a_living_run_is_followed_from_the_start_and_the_screen_stays() -> None:
    app = CpadvisorApp(FakeWork(living=RUN))
    async with app.run_test(size=(120, 36)) as pilot:
        await seen(pilot, "● running 12/50", "NV18")
        assert isinstance(app.screen, NodeScreen)
        await press(pilot, "q")
        await seen(pilot, "A run is alive")


async def test_the_app_opens_on_the_run_that_it_was_given() -> None:
    work = FakeWork(living=Path("runs/another"))
    app = CpadvisorApp(work, run=RUN)
    async with app.run_test(size=(120, 36)) as pilot:
        await seen(pilot, "● running  step 12/50")
        assert isinstance(app.screen, RunScreen)
        assert app.session.run_dir == RUN


async def test_a_stop_in_another_app_shows_here() -> None:
    work = FakeWork(living=RUN, views=[run_view(), run_view(state="stopping"), run_view(state="stopped")], shown=0)
    app = CpadvisorApp(work)
    async with app.run_test(size=(120, 36)) as pilot:
        await press(pilot, "4")
        await seen(pilot, "● running  step 12/50")
        work.shown = 1
        await seen(pilot, "▲ stopping  step 12/50", "torchrun gives them 30 s")
        work.shown = 2
        await seen(pilot, "▲ stopped  step 12/50")
        assert not app.session.is_running


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_kind_of_failure_has_a_name_of_its_own(language: str) -> None:
    words = Words(language)
    assert len({words[f"failure {kind}"] for kind in KINDS}) == len(KINDS)


def test_a_halted_rank_is_not_called_alive() -> None:
    view = run_view()
    halted = replace(view.ranks[0], halted=True)
    assert rank_state(halted, view, WORDS).runs == (("▲ halted", "bad"),)
    assert rank_state(view.ranks[0], view, WORDS).runs == (("● alive", "ok"),)
    assert rank_state(replace(halted, halted=False, alive=False), view, WORDS).runs == (("○ ended", "muted"),)


def test_the_band_is_that_of_the_allocator_without_what_lies_outside_it() -> None:
    # 6 GiB at the peak, of which 0.5 GiB are the context's and 0.25 GiB NCCL's; the band reaches 2 GiB down, 1 up.
    terms = {"parameters": 4 * GIB, "context": GIB // 2, "nccl": GIB // 4}
    prediction = {"peak_bytes": 6 * GIB, "low_bytes": 4 * GIB, "high_bytes": 7 * GIB, "terms_bytes": terms}
    band = expected_band(replace(run_view(), prediction=prediction))
    assert band == (3.25 * GIB, 5.25 * GIB, 6.25 * GIB)
    assert expected_band(replace(run_view(), prediction=None)) == (None, None, None)


def test_a_replay_says_its_speed_its_place_and_whether_it_is_held() -> None:
    state = ReplayState(at_s=30.0, length_s=120.0, speed=10.0)
    text = "".join(part for part, _ in replay_label(state, WORDS))
    assert text == "⟲ replay 10×  ████············  0:30 of 2:00"
    held = "".join(part for part, _ in replay_label(replace(state, paused=True), WORDS))
    assert held == f"{text} · paused"
    over = "".join(part for part, _ in replay_label(replace(state, at_s=120.0), WORDS))
    assert over.endswith("2:00 of 2:00 · over")


async def test_the_log_that_grew_unseen_shows_its_end_when_the_screen_comes_back() -> None:
    work = FakeWork(log=tuple(f"line {number} of it" for number in range(1, 7)))
    app = CpadvisorApp(work)
    async with app.run_test(size=(160, 45)) as pilot:
        await press(pilot, "c", "L")
        await seen(pilot, "line 6 of it")
        await press(pilot, "5")
        work.log = tuple(f"line {number} of it" for number in range(1, 31))
        await until(lambda: app.session.live is not None and len(app.session.live.log) == 30, app)
        await press(pilot, "4")
        await seen(pilot, "line 30 of it")


async def test_a_look_that_fails_is_told_once_and_the_next_ones_go_on() -> None:
    work = FakeWork(views=[run_view(steps=3), run_view(steps=30)], shown=0)
    app = CpadvisorApp(work)
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await press(pilot, "c", "L")
        await seen(pilot, "● running  step 3/50")
        work.trouble = "cannot read run.json: Input/output error"
        await seen(pilot, "Input/output error")
        await pilot.pause(1.6)  # three looks later
        told = [each.message for each in app._notifications if "Input/output" in each.message]
        assert len(told) == 1
        work.trouble, work.shown = None, 1
        await seen(pilot, "● running  step 30/50")
