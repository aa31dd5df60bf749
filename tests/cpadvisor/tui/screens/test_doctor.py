from dataclasses import replace
from pathlib import Path

import pytest
from pilot_support import SIZES, press, row_of, seen
from tui_support import DIAGNOSES, FakeWork, run_view

from cpadvisor.doctor.diagnosis import Diagnosis, Mend
from cpadvisor.errors import ConfigError
from cpadvisor.job import Request
from cpadvisor.report.doctor import doctor_text
from cpadvisor.tui.app import CpadvisorApp
from cpadvisor.tui.exam import Exam, Remedy, Subject
from cpadvisor.tui.home import Home
from cpadvisor.tui.screens.doctor import DoctorScreen
from cpadvisor.tui.screens.picker import ChangePreview, Picker
from cpadvisor.tui.session import Machine


@pytest.mark.parametrize("size", SIZES)
async def test_the_doctor_shows_every_check_with_marks_counts_and_the_chosen_finding(size: tuple[int, int]) -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=size) as pilot:
        await press(pilot, "5")
        text = await seen(
            pilot,
            *("This machine", "✖ 1  ▲ 1  ● 2", "✖ the cp group crosses PCIe (PHB)", "ring 0-1-2-3"),
            *(
                "22 GB/s in place of 450",
                "mend 1",
                "keep the ring on NVLink",
                "CUDA_VISIBLE_DEVICES=0,1,4,5",
                "ring-link",
            ),
        )
        rows = {one.title: row_of(text, f"  {one.title}") for one in DIAGNOSES}
        assert [mark for title in rows for mark in "✖▲●" if f" {mark}  {title}" in rows[title]] == ["✖", "▲", "●", "●"]
        assert "D2 L2" in rows["the cp group crosses PCIe (PHB)"]


async def test_the_next_check_shows_its_own_evidence_as_it_is() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(160, 45)) as pilot:
        await press(pilot, "5")
        await seen(pilot, "ring-link")
        await press(pilot, "down")
        await seen(pilot, "64 MiB; NCCL takes up to 8 GiB", "sockets [inside] the node", absent=("ring-link",))


async def test_the_card_says_its_rows_beside_the_finding() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(160, 45)) as pilot:
        await press(pilot, "5")
        await seen(pilot, "What the card says", "D2  ", "L2  NVLink within the CP group")


async def test_m_chooses_the_next_mend_and_enter_shows_its_change_before_it_is_written() -> None:
    work = FakeWork()
    app = CpadvisorApp(work)
    async with app.run_test(size=(160, 45), notifications=True) as pilot:
        await press(pilot, "5")
        await seen(pilot, "mend 2")
        await press(pilot, "m", "enter")
        await seen(pilot, "+context_parallel_size: 2", "enter write cpadvisor.yaml")
        assert isinstance(app.screen, ChangePreview)
        assert not any(call.startswith("mend ") for call in work.calls)
        await press(pilot, "enter")
        await seen(pilot, "cpadvisor.yaml.bak", absent=("crosses PCIe",))
        assert "mend context_parallel_size 2" in work.calls
        assert work.calls.count("examine node") == 2


async def test_escape_writes_nothing() -> None:
    work = FakeWork()
    app = CpadvisorApp(work)
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "5")
        await seen(pilot, "mend 2")
        await press(pilot, "m", "enter")
        await seen(pilot, "enter write cpadvisor.yaml")
        await press(pilot, "escape")
        assert isinstance(app.screen, DoctorScreen)
        assert not any(call.startswith("mend ") for call in work.calls)


async def test_a_mend_that_is_a_command_is_shown_and_copied_and_cannot_be_written() -> None:
    work = FakeWork()
    app = CpadvisorApp(work)
    async with app.run_test(size=(120, 36)) as pilot:
        await press(pilot, "5")
        await seen(pilot, "mend 1")
        await press(pilot, "enter")
        await seen(pilot, "y copy the command", absent=("enter write",))
        await press(pilot, "enter")
        assert isinstance(app.screen, ChangePreview)
        await press(pilot, "y")
        assert app.clipboard == "CUDA_VISIBLE_DEVICES=0,1,4,5 cpadvisor launch f.yaml"
        assert not any(call.startswith("mend ") for call in work.calls)


async def test_a_check_without_a_mend_says_so() -> None:
    app = CpadvisorApp(FakeWork(found=(DIAGNOSES[2],)))
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await press(pilot, "5")
        await seen(pilot, "580.95 is 535 or newer")
        await press(pilot, "enter")
        await seen(pilot, "nothing to mend here")


async def test_what_goes_wrong_with_a_mend_is_told_and_the_findings_stay() -> None:
    class Refusing(FakeWork):
        def remedy(self, exam: Exam, title: str, mend: Mend) -> Remedy:
            raise ConfigError("c.yaml is not YAML any more: line 3")

    app = CpadvisorApp(Refusing())
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await press(pilot, "5")
        await seen(pilot, "mend 2")
        await press(pilot, "enter")
        await seen(pilot, "not YAML any more", "crosses PCIe")


async def test_the_filter_leaves_the_checks_that_hold_every_word_and_escape_brings_all_back() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "5")
        await seen(pilot, "driver 580.95")
        await press(pilot, "slash", *"shm nccl")
        await seen(pilot, "▲ 1", "/dev/shm is small", absent=("driver 580.95", "✖ 1"))
        await press(pilot, "enter")
        assert app.focused is app.screen.query_one("#found")
        await press(pilot, "slash", "escape")
        await seen(pilot, "driver 580.95", "✖ 1")


async def test_a_digit_in_the_filter_is_typed_and_goes_to_no_screen() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "5")
        await seen(pilot, "driver 580.95")
        await press(pilot, "slash", *"580")
        await seen(pilot, "● 1", absent=("✖ 1",))
        assert isinstance(app.screen, DoctorScreen)


async def test_y_copies_the_report_that_the_command_prints() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await press(pilot, "5")
        await seen(pilot, "driver 580.95")
        await press(pilot, "y")
        await seen(pilot, "copied")
        assert app.clipboard == doctor_text(DIAGNOSES, subject="this machine", target=None, width=100)
        await press(pilot, "slash", *"shm", "enter", "y")
        await seen(pilot, absent=("driver 580.95",))
        assert "CP group" not in app.clipboard
        assert "/dev/shm is small" in app.clipboard


async def test_r_looks_again_and_the_chosen_check_stays_chosen() -> None:
    work = FakeWork()
    app = CpadvisorApp(work)
    async with app.run_test(size=(120, 36)) as pilot:
        await press(pilot, "5")
        await seen(pilot, "ring-link")
        await press(pilot, "down", "down")
        await seen(pilot, "580.95 is 535 or newer")
        new = Diagnosis(rule="nvml", severity="error", title="NVML does not answer", evidence="no library")
        work.found = (new, *work.found)
        await press(pilot, "r")
        await seen(pilot, "✖ 2", "580.95 is 535 or newer")


async def test_the_subject_goes_from_machine_to_config_to_run_and_each_is_examined() -> None:
    work = FakeWork(living=Path("runs/20261123-tiny-1x1x1x2"))
    app = CpadvisorApp(work)
    async with app.run_test(size=(120, 36)) as pilot:
        await press(pilot, "5")
        await seen(pilot, "This machine")
        await press(pilot, "v")
        await seen(pilot, "Config  cpadvisor.yaml")
        await press(pilot, "v")
        await seen(pilot, "Run  20261123-tiny-1x1x1x2")
        await press(pilot, "v")
        await seen(pilot, "This machine")
        assert [call for call in work.calls if call.startswith("examine")] == [
            "examine node",
            "examine config",
            "examine run",
            "examine node",
        ]


async def test_what_is_not_there_yet_cannot_be_examined_and_says_which_key_makes_it() -> None:
    app = CpadvisorApp(FakeWork(on_disk=None))
    async with app.run_test(size=(120, 36)) as pilot:
        await press(pilot, "5")
        await seen(pilot, "ring-link")
        await press(pilot, "v")
        await seen(pilot, "the config is not on disk yet; w on", absent=("ring-link",))
        await press(pilot, "v")
        await seen(pilot, "there is no run yet")


async def test_d_on_the_run_screen_asks_the_doctor_about_this_run() -> None:
    view = replace(run_view(), run="20261123-tiny-1x1x1x2")
    work = FakeWork(living=Path("runs/20261123-tiny-1x1x1x2"), views=[view])
    app = CpadvisorApp(work)
    async with app.run_test(size=(120, 36)) as pilot:
        await press(pilot, "4")
        await seen(pilot, "● running 12/50")
        await press(pilot, "d")
        await seen(pilot, "Run  20261123-tiny-1x1x1x2", "crosses PCIe")
        assert "examine run" in work.calls


async def test_while_the_doctor_works_it_says_what_it_looks_at() -> None:
    from threading import Event

    release = Event()

    class Slow(FakeWork):
        def examine(self, subject: Subject, *, node: object = None, view: object = None) -> Exam:
            release.wait(10)
            return super().examine(subject)

    app = CpadvisorApp(Slow())
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "5")
        await seen(pilot, "looking at driver, NVML")
        release.set()
        await seen(pilot, "ring-link", absent=("looking at",))


async def test_as_the_first_screen_it_says_what_it_looks_at_while_the_plan_is_made() -> None:
    from threading import Event

    begun, release = Event(), Event()

    class Slow(FakeWork):
        def machine(self, request: Request) -> Machine:
            begun.wait(10)
            return super().machine(request)

        def examine(self, subject: Subject, *, node: object = None, view: object = None) -> Exam:
            begun.set()
            release.wait(10)
            return super().examine(subject)

    app = CpadvisorApp(Slow(), home=Home(screen="doctor"))
    async with app.run_test(size=(120, 36)) as pilot:
        for _ in range(100):
            if app.session.draft is not None:
                break
            await pilot.pause(0.02)
        assert app.session.draft is not None, "other stages have come and gone"
        await seen(pilot, "looking at driver, NVML", absent=("nothing was examined",))
        release.set()
        await seen(pilot, "ring-link", absent=("looking at",))


async def test_where_nothing_can_be_examined_it_says_why_and_looks_at_nothing() -> None:
    class Broken(FakeWork):
        def examine(self, subject: Subject, *, node: object = None, view: object = None) -> Exam:
            raise ConfigError("it cannot be read")

    app = CpadvisorApp(Broken())
    async with app.run_test(size=(120, 36)) as pilot:
        await press(pilot, "5")
        await seen(pilot, "it cannot be read", "nothing was examined", absent=("looking at",))


async def test_a_symptom_asks_what_is_seen_and_orders_the_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    from cpadvisor import doctor

    asked: list[str] = []

    def guided(found: tuple[Diagnosis, ...], symptom: str) -> tuple[Diagnosis, ...]:
        asked.append(symptom)
        return tuple(reversed(found[:2]))

    monkeypatch.setattr(doctor, "guided", guided)
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "5")
        await seen(pilot, "driver 580.95")
        await press(pilot, "s")
        await seen(pilot, "What do you see?", "nothing moves")
        assert isinstance(app.screen, Picker)
        await press(pilot, "down", "enter")
        text = await seen(pilot, "training is slow", "1  ▲  /dev/shm", "2  ✖  the cp group", absent=("driver 580.95",))
        assert set(asked) == {"slow"}
        assert text.index("/dev/shm is small") < text.index("crosses PCIe")
        await press(pilot, "s", "end", "enter")
        await seen(pilot, "driver 580.95", absent=("training is slow",))


async def test_chinese_names_stand_beside_the_same_findings() -> None:
    from cpadvisor.settings import Settings

    app = CpadvisorApp(FakeWork(), home=Home(settings=Settings(lang="zh")))
    async with app.run_test(size=(160, 45)) as pilot:
        await press(pilot, "5")
        await seen(pilot, "证据", "修复 1", "速查卡原文", "the cp group crosses PCIe (PHB)")
