from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pilot_support import SIZES, press, row_of, seen, until
from tui_support import NOON, FakeWork, entry, history_entries, run_view

from cpadvisor.tui.app import CpadvisorApp
from cpadvisor.tui.history import ReplayState
from cpadvisor.tui.i18n import Words
from cpadvisor.tui.screens.reader import Question
from cpadvisor.tui.screens.run import RunScreen
from cpadvisor.tui.screens.run_rows import legend, run_row, when_label
from cpadvisor.tui.screens.runs import RunsScreen

WORDS = Words("en")
DONE, OOM = "20261120T090000Z-tiny-1x1x1x1", "20261123T105100Z-llama-3.1-8b-1x4x1x2"


@pytest.mark.parametrize("size", SIZES)
async def test_the_history_is_newest_first_with_state_figures_and_errors(size: tuple[int, int]) -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=size) as pilot:
        await press(pilot, "6")
        text = await seen(pilot, "4 runs · ● 1 alive", "✖", "✔", "50/50", "1,927", "−17 %")
        listed = [row for row in text.splitlines() if "/50  " in row]
        assert [mark for row in listed for mark in "●✖✔" if f" {mark}  " in row] == ["●", "✖", "✔"]
        assert "1×1×1×2" in listed[1]
        assert "12/50  4.8000" in listed[1]


async def test_a_wide_list_has_length_state_time_error_and_the_cause() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(160, 45)) as pilot:
        await press(pilot, "6")
        text = await seen(pilot, "out of memory")
        row = row_of(text, "out of memory")
        assert "8K" in row
        assert "−17 %  +5 %" in row
        assert "rank 1 ran out of GPU memory" in row
        assert "cannot read run.json: it is torn" in row_of(text, "20261101T000000Z")


@pytest.mark.parametrize("size", SIZES)
async def test_the_run_under_the_cursor_is_told_below_with_cause_and_mend(size: tuple[int, int]) -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=size) as pilot:
        await press(pilot, "6")
        await seen(pilot, "● running  1 min 23 s")
        await press(pilot, "down")
        await seen(pilot, "✖ out of memory", "raise context_parallel_size from 2 to 4", "5.0 GiB / 6.0 GiB  −17 %")


async def test_enter_on_an_ended_run_shows_its_last_frame_and_escape_goes_back() -> None:
    work = FakeWork()
    app = CpadvisorApp(work)
    async with app.run_test(size=(120, 36)) as pilot:
        await press(pilot, "6")
        await seen(pilot, "50/50")
        await press(pilot, "down", "down", "enter")
        await seen(pilot, "✔ done  step 50/50", DONE, "[rank0] the end")
        assert isinstance(app.screen, RunScreen)
        assert not app.session.is_running
        await press(pilot, "r")
        await seen(pilot, "[rank1] the end", "rank 1 of 2")
        await press(pilot, "escape")
        assert isinstance(app.screen, RunsScreen)
        assert app.session.recalled is None


async def test_enter_on_a_living_run_follows_it() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(120, 36)) as pilot:
        await press(pilot, "6")
        await seen(pilot, "12/50")
        await press(pilot, "enter")
        await seen(pilot, "● running  step 12/50")
        assert app.session.run_dir == history_entries()[0].directory
        assert app.session.is_running


async def test_an_ended_run_that_is_opened_leaves_the_living_one_followed() -> None:
    living = history_entries()[0].directory
    app = CpadvisorApp(FakeWork(living=living))
    async with app.run_test(size=(120, 36)) as pilot:
        await press(pilot, "6")
        await seen(pilot, "50/50", "● running 12/50")
        await press(pilot, "down", "down", "enter")
        await seen(pilot, "✔ done  step 50/50")
        assert app.session.run_dir == living
        assert app.session.is_running
        await press(pilot, "q")
        assert isinstance(app.screen, Question)


async def test_an_unreadable_run_says_why_in_place_of_opening() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await press(pilot, "6")
        await seen(pilot, "50/50")
        await press(pilot, "end", "enter")
        await seen(pilot, "cannot read run.json: it is torn")
        assert isinstance(app.screen, RunsScreen)


@pytest.mark.parametrize("size", SIZES)
async def test_a_replay_runs_to_its_end_and_says_that_it_is_one(size: tuple[int, int]) -> None:
    app = CpadvisorApp(FakeWork(replay_s=20.0))
    async with app.run_test(size=size) as pilot:
        await press(pilot, "6")
        await seen(pilot, "50/50")
        await press(pilot, "down", "down", "p")
        await seen(pilot, "⟲ replay 10×", "· over", "✔ done  step 21/50", "0:20 of 0:20")


async def test_space_holds_a_replay_and_lets_it_go_on() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(160, 45)) as pilot:
        await press(pilot, "6")
        await seen(pilot, "50/50")
        await press(pilot, "down", "down", "p")
        await seen(pilot, "⟲ replay 10×", "+ Faster")
        await press(pilot, "space")
        await seen(pilot, "paused")
        place = replayed(app).at_s
        for _ in range(4):
            await pilot.pause(0.3)
        assert replayed(app).at_s == place
        await press(pilot, "space")
        await seen(pilot, "⟲ replay 10×", absent=("paused",))
        await until(lambda: replayed(app).at_s > place, app)


def replayed(app: CpadvisorApp) -> ReplayState:
    recalled = app.session.recalled
    assert recalled is not None
    assert recalled.replay is not None
    return recalled.replay


async def test_plus_and_minus_change_the_speed_of_a_replay_alone() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(160, 45)) as pilot:
        await press(pilot, "6")
        await seen(pilot, "50/50")
        await press(pilot, "down", "down", "p")
        await seen(pilot, "⟲ replay 10×", "+ Faster")
        await press(pilot, "space", "minus", "minus")
        await seen(pilot, "⟲ replay 2×", "paused")
        await press(pilot, "plus")
        await seen(pilot, "⟲ replay 5×")
        await press(pilot, "escape", "4")
        await seen(pilot, "No run yet", absent=("Faster", "⟲"))


async def test_a_living_run_is_not_replayed_resumed_or_deleted() -> None:
    work = FakeWork()
    app = CpadvisorApp(work)
    async with app.run_test(size=(160, 45), notifications=True) as pilot:
        await press(pilot, "6")
        await seen(pilot, "50/50")
        for key in ("p", "R", "d"):
            await press(pilot, key)
            assert isinstance(app.screen, RunsScreen)
        await seen(pilot, "stop it first")
        assert [call for call in work.calls if call.split()[0] in ("replay", "resume", "delete")] == []


async def test_two_marked_runs_are_laid_over_each_other_and_escape_ends_it() -> None:
    work = FakeWork()
    app = CpadvisorApp(work)
    async with app.run_test(size=(160, 45)) as pilot:
        await press(pilot, "6")
        await seen(pilot, "50/50")
        await press(pilot, "space", "down", "space")
        await seen(pilot, "✓ 2 marked")
        await press(pilot, "c")
        text = await seen(pilot, "context_parallel_size    1 → 2", "keys that differ 1", "━━━ 1×1×1×1", "━━ ━ 1×1×1×2")
        assert "final loss               1.0000 → 4.8000" in text
        assert "bf16" not in text
        assert f"compare {DONE} 20261123T115000Z-tiny-1x1x1x2" in work.calls
        await press(pilot, "escape")
        await seen(pilot, "This run", absent=("✓", "keys that differ"))


async def test_of_three_marks_the_first_goes_and_fewer_than_two_are_not_compared() -> None:
    work = FakeWork()
    app = CpadvisorApp(work)
    async with app.run_test(size=(160, 45), notifications=True) as pilot:
        await press(pilot, "6")
        await seen(pilot, "50/50")
        await press(pilot, "space", "c")
        await seen(pilot, "mark two runs")
        await press(pilot, "space", "space")
        text = await seen(pilot, "✓ 2 marked")
        assert "✓" not in row_of(text, "running  ")
        assert "✓" in row_of(text, "done  ")


async def test_d_asks_first_and_then_the_run_is_gone_from_the_list() -> None:
    work = FakeWork()
    app = CpadvisorApp(work)
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "6")
        await seen(pilot, "50/50")
        await press(pilot, "down", "down", "d")
        await seen(pilot, DONE, "y delete it")
        await press(pilot, "escape")
        assert not any(call.startswith("delete") for call in work.calls)
        await press(pilot, "d", "y")
        await seen(pilot, "3 runs", absent=("50/50",))
        assert f"delete {DONE}" in work.calls


async def test_a_deleted_run_is_shown_nowhere_any_more() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(120, 36)) as pilot:
        await press(pilot, "6")
        await seen(pilot, "50/50")
        await press(pilot, "down", "down", "enter")
        await seen(pilot, "✔ done  step 50/50")
        await press(pilot, "6", "d", "y")
        await seen(pilot, "3 runs")
        await press(pilot, "4")
        await seen(pilot, "No run yet", absent=("50/50",))


@pytest.mark.parametrize(
    ("step", "told"),
    [(None, "It has kept no checkpoint and begins anew."), (8, "It goes on from its checkpoint of step 8")],
)
async def test_capital_r_resumes_after_a_question_and_follows_the_run(step: int | None, told: str) -> None:
    work = FakeWork()
    work.entries = tuple(
        each if each.view is None else replace(each, view=replace(each.view, checkpoint_step=step))
        for each in work.entries
    )
    app = CpadvisorApp(work)
    async with app.run_test(size=(120, 36)) as pilot:
        await press(pilot, "6")
        await seen(pilot, "50/50")
        await press(pilot, "down", "R")
        await seen(pilot, told)
        assert f"resume {OOM}" not in work.calls
        await press(pilot, "y")
        await seen(pilot, "● running  step 12/50")
        assert f"resume {OOM}" in work.calls
        assert app.session.run_dir == Path("runs") / OOM


async def test_the_filter_takes_words_of_model_layout_and_state() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(160, 45)) as pilot:
        await press(pilot, "6")
        await seen(pilot, "50/50")
        await press(pilot, "slash", *"out of llama", "enter")
        text = await seen(pilot, "llama-3.1-8b", absent=("50/50",))
        assert "4 runs" in text
        await press(pilot, "slash", "escape")
        await seen(pilot, "50/50")


async def test_the_list_renews_itself_while_it_is_seen_and_keeps_the_chosen_run() -> None:
    work = FakeWork()
    app = CpadvisorApp(work)
    async with app.run_test(size=(160, 45)) as pilot:
        await press(pilot, "6")
        await seen(pilot, "50/50")
        await press(pilot, "down", "down")
        await seen(pilot, "✔ done  1 min")
        new = replace(run_view(steps=7), started=NOON - 60)
        work.entries = (entry("20261123T115900Z-new", new), *work.entries)
        await seen(pilot, "5 runs · ● 2 alive", "7/50", "✔ done  1 min")
        await press(pilot, "1")
        asked = work.calls.count("histories")
        for _ in range(10):
            await pilot.pause(0.3)
        assert work.calls.count("histories") == asked


async def test_v_reaches_the_curves_in_a_narrow_terminal() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "6")
        await seen(pilot, "This run  v")
        await press(pilot, "v")
        await seen(pilot, "Loss  v", "5.96", absent=("This run",))
        await press(pilot, "v")
        await seen(pilot, "Tokens/s a GPU  v", "╌╌╌")
        await press(pilot, "v")
        await seen(pilot, "This run  v")


async def test_without_runs_the_list_says_which_key_starts_one() -> None:
    app = CpadvisorApp(FakeWork(entries=()))
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "6")
        await seen(pilot, "no runs yet; L starts one", "0 runs")
        await press(pilot, "p", "d", "R", "space", "enter")
        assert isinstance(app.screen, RunsScreen)


def test_a_time_is_as_short_as_the_day_allows() -> None:
    now = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    morning, monday, last_year = now - timedelta(hours=2), now - timedelta(days=3), now - timedelta(days=400)
    assert [when_label(each, now, short=False) for each in (morning, monday, last_year)] == [
        "10:00",
        "11-20 12:00",
        "2025-10-19",
    ]
    assert [when_label(each, now, short=True) for each in (morning, monday, last_year)] == ["10:00", "11-20", "2025"]


def test_runs_of_one_layout_are_told_apart_by_their_time() -> None:
    now = datetime.fromtimestamp(NOON, tz=UTC)
    first, second = (replace(run_view(), started=NOON - ago) for ago in (7200, 3600))
    assert [text.split(maxsplit=1)[0] for text, _ in legend(first, second, now=now)] == ["━━━", "━━"]
    assert "10:00" in legend(first, second, now=now)[0][0]
    assert "11:00" in legend(first, second, now=now)[1][0]


def test_a_far_prediction_has_another_tone_than_a_near_one() -> None:
    now = datetime.fromtimestamp(NOON, tz=UTC)
    row = run_row(history_entries()[0], WORDS, now=now, marked=False, wide=False)
    assert row[-1].runs == (("−17 %", "warn"),)
    near = replace(run_view(), peak_bytes=int(run_view().prediction["peak_bytes"] * 1.02))  # pyright: ignore
    row = run_row(entry("r", near), WORDS, now=now, marked=False, wide=False)
    assert row[-1].runs == (("+2 %", "predicted"),)


@pytest.mark.parametrize("size", [(60, 16), (80, 16), (80, 24)])
async def test_the_list_keeps_its_header_and_the_row_of_the_cursor_in_a_small_terminal(size: tuple[int, int]) -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=size) as pilot:
        await press(pilot, "6")
        await seen(pilot, "when", "12/50", "This run")
        await press(pilot, "down", "down")
        assert "▌" in row_of(await seen(pilot, "11-20"), "11-20")
