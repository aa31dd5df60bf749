"""Screens beside the JSON of the headless commands: the same functions, so the same figures."""

import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from pilot_support import app_of, patiently, seen, settled, until
from textual.pilot import Pilot

from cpadvisor import units
from cpadvisor.check import findings_json
from cpadvisor.doctor import diagnoses_json, examine_config
from cpadvisor.job import Request, build_job
from cpadvisor.plan.report import advice_json
from cpadvisor.plan.search import advise
from cpadvisor.probe.machine import find_node
from cpadvisor.probe.recorded import load_node, node_json
from cpadvisor.report.node import island_label, ring_label
from cpadvisor.runrecord import RunRecord, read_record, write_record
from cpadvisor.tui.app import CpadvisorApp
from cpadvisor.tui.session import GPU_REQUEST
from cpadvisor.tui.widgets.table import RowTable
from cpadvisor.tui.work import Work
from cpadvisor.watch.figures import measured
from cpadvisor.watch.monitor import Monitor
from cpadvisor.watch.report import runs_json
from runtime.telemetry import EventWriter


async def drafted(pilot: Pilot[int]) -> None:
    """Wait for a file; nothing stands in its way."""
    await settled(pilot)
    assert not app_of(pilot).session.problems, app_of(pilot).session.problems


@pytest.mark.parametrize("name", ["dgx-h100", "dgx-1v", "pcie-l40s-8"])
async def test_node_screen_and_inspect_agree(tmp_path: Path, name: str) -> None:
    node, _ = find_node(node=name, topo_text=None, gpu=None)
    told = node_json(node)
    app = CpadvisorApp(Work(config=tmp_path / "c.yaml"), request=Request(node=name, model="tiny", sequence_len="8k"))
    async with app.run_test(size=(200, 70)) as pilot:
        islands = island_label(tuple(map(tuple, told["islands"])))
        ring = ring_label(tuple(told["ring"]["order"]))
        memory = units.format_bytes(told["gpus"][0]["memory_bytes"])
        await seen(pilot, islands, ring, told["ring"]["worst"], memory)


async def test_plan_and_config_screens_agree_with_plan_and_check(tmp_path: Path) -> None:
    request = Request(node="dgx-h100", model=GPU_REQUEST.model, sequence_len=GPU_REQUEST.sequence_len, lock="")
    job = build_job(request)
    told = advice_json(advise(job.node, job.gpu, job.workload))
    app = CpadvisorApp(Work(config=tmp_path / "c.yaml"), request=request)
    async with app.run_test(size=(200, 70)) as pilot:
        await drafted(pilot)
        await pilot.press("2")
        figures = [
            text
            for plan in told["plans"]
            for text in (
                units.format_bytes(plan["memory"]["peak_bytes"]),
                units.format_count(plan["tokens_per_s_per_gpu"]),
                units.format_seconds(plan["step"]["total_s"]),
                units.format_percent(plan["mfu"]),
            )
        ]
        counts = f"{len(told['plans'])} feasible · {len(told['rejected'])} rejected"
        await seen(pilot, *figures, counts, told["trace"][0]["question"])
        await pilot.press("3")
        assert app.session.draft is not None
        findings = findings_json(app.session.draft.findings)["findings"]
        await seen(pilot, *(finding["rule"] for finding in findings), "sequence_len: 32768")


async def test_w_keeps_the_old_file_beside_the_new_one(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("sequence_len: 1\n")
    app = CpadvisorApp(Work(config=config), request=Request(node="cpu", model="tiny", sequence_len="8k", lock="cp=2"))
    async with app.run_test(size=(160, 45)) as pilot:
        await drafted(pilot)
        await pilot.press("3")
        await seen(pilot, "-sequence_len: 1")
        await pilot.press("w")
        await until(lambda: app.session.draft is not None and app.session.draft.is_saved, app)
        assert config.read_text() == app.session.draft.text  # pyright: ignore
        assert (tmp_path / "c.yaml.bak").read_text() == "sequence_len: 1\n"


async def test_a_target_that_cannot_be_written_is_told_and_the_app_lives(tmp_path: Path) -> None:
    config = tmp_path / "file" / "c.yaml"
    (tmp_path / "file").write_text("a file where a folder is needed")
    app = CpadvisorApp(Work(config=config), request=Request(node="cpu", model="tiny", sequence_len="8k", lock="cp=2"))
    async with app.run_test(size=(160, 45), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("3", "w")
        await until(lambda: bool(app.session.problems), app)
        assert any(str(tmp_path / "file") in reason for reason in app.session.problems.values())
        assert app.is_running


async def test_a_recorded_run_is_shown_as_watch_tells_it(tmp_path: Path) -> None:
    run_dir = recorded_run(tmp_path)
    app = CpadvisorApp(Work(config=tmp_path / "c.yaml"), request=Request(node="cpu", model="tiny", sequence_len="8k"))
    async with app.run_test(size=(160, 45)) as pilot:
        await pilot.press("4")
        app.follow(run_dir)
        await seen(pilot, "step 3/5", "loss 4.0000", "200 MiB", "predicted 210 MiB", "/ 2,000")
        view = Monitor(run_dir).poll()
        assert app.session.live is not None
        assert app.session.live.view.loss == view.loss
        assert app.session.live.view.peak_bytes == view.peak_bytes == 200 * units.MIB
        writer = EventWriter(run_dir, 0)
        writer.emit("step", step=4, loss=3.5, grad_norm=1.0, step_s=1.0, tokens_per_s_per_gpu=1900.0)
        writer.close()
        if not view.is_final:
            await seen(pilot, "step 4/5", "loss 3.5000")


async def test_doctor_screen_and_doctor_json_agree_on_a_config(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    work = Work(config=config, runs=tmp_path / "runs")
    app = CpadvisorApp(work, request=Request(node="cpu", model="tiny", sequence_len="8k", lock="cp=2"))
    async with app.run_test(size=(200, 70)) as pilot:
        await drafted(pilot)
        await pilot.press("3", "w")
        await seen(pilot, "● saved")
        app.choose_subject("config")
        await pilot.press("5")
        found = examine_config(config, node=load_node("cpu"))
        told = diagnoses_json(found, subject="config")
        await seen(pilot, f"● {len(found) - sum(one.severity != 'ok' for one in found)}")
        for place, finding in enumerate(told["findings"]):
            app.screen.query_one("#found", RowTable).cursor = place
            mends = [mend["text"][:40] for mend in finding["mends"]]
            await seen(pilot, finding["title"][:60], finding["evidence"][:60].split("\n")[0], *mends, *finding["card"])


async def test_runs_screen_and_runs_json_agree(tmp_path: Path) -> None:
    run_dir = recorded_run(tmp_path)
    told = runs_json([Monitor(run_dir).poll()])["runs"][0]
    figures = measured(Monitor(run_dir).poll())
    app = CpadvisorApp(Work(config=tmp_path / "c.yaml", runs=tmp_path), request=Request(node="cpu", model="tiny"))
    async with app.run_test(size=(160, 45)) as pilot:
        await pilot.press("6")
        text = await seen(pilot, told["run"], "200 MiB / 210 MiB", "1 run · ● 1 alive")
        row = next(row for row in text.splitlines() if "3/5" in row and row.startswith("│"))
        for text in (
            told["model"],
            told["phase"].replace("_", " "),
            units.format_tokens(told["sequence_len"]),
            units.format_bytes(figures.peak_bytes),
            units.format_count(figures.tokens_per_s_per_gpu),
            units.format_change(figures.peak_error),
            units.format_change(figures.step_error),
            datetime.fromtimestamp(told["started"]).astimezone().strftime("%Y"),
        ):
            assert text in row


async def test_a_run_opened_from_the_history_shows_the_frame_that_watch_prints(tmp_path: Path) -> None:
    run_dir = recorded_run(tmp_path)
    record = read_record(run_dir)
    write_record(run_dir, replace(record, boot_id="earlier"))
    view = Monitor(run_dir).poll()
    assert view.is_final
    app = CpadvisorApp(Work(config=tmp_path / "c.yaml", runs=tmp_path), request=Request(node="cpu", model="tiny"))
    async with app.run_test(size=(160, 45)) as pilot:
        await pilot.press("6")
        await seen(pilot, "1 run ")
        await pilot.press("enter")
        assert view.failure is not None
        opened = await seen(pilot, "✖ lost  step 3/5", view.failure.headline[:60], "rank 0 of 1")
        await pilot.press("escape", "p")
        replayed = ""
        for _ in patiently():  # the panels of a frame may be drawn one after the other
            replayed = await seen(pilot, "· over", "✖ lost  step 3/5", view.failure.headline[:60], "rank 0 of 1")
            if inside(replayed) == inside(opened):
                break
        assert inside(replayed) == inside(opened)


def inside(frame: str) -> list[str]:
    """The rows of a frame that do not say whether it is opened or replayed."""
    return [line for line in frame.splitlines()[2:-1] if "╯" not in line]


def recorded_run(folder: Path, name: str = "20261123T000000Z-tiny-1x1x1x1") -> Path:
    """Three steps of a run whose ranks are this very process, so that it is alive."""
    from cpadvisor.processes import identify
    from cpadvisor.rundir import boot_id

    run_dir = folder / name
    run_dir.mkdir()
    me = identify(os.getpid())
    assert me is not None
    prediction = {
        "peak_bytes": 210 * units.MIB,
        "low_bytes": 180 * units.MIB,
        "high_bytes": 240 * units.MIB,
        "step_s": 1.0,
        "tokens_per_s_per_gpu": 2000.0,
    }
    write_record(
        run_dir,
        RunRecord(
            run=run_dir.name,
            model="tiny",
            layout={"cp": 1},
            sequence_len=8192,
            steps=5,
            world=1,
            boot_id=boot_id(),
            agent=me,
            prediction=prediction,
        ),
    )
    writer = EventWriter(run_dir, 0)
    writer.emit("start", rank=0, world=1, pid=os.getpid(), pid_start=me.start_ticks, steps=5, cp_method="none")
    for step in (1, 2, 3):
        writer.emit("step", step=step, loss=7.0 - step, grad_norm=1.0, step_s=1.0, tokens_per_s_per_gpu=1800.0 + step)
    writer.emit("memory", allocated_bytes=150 * units.MIB, peak_allocated_bytes=200 * units.MIB)
    writer.close()
    return run_dir
