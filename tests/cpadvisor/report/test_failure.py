import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpadvisor.report.failure import COLUMNS, MOST_LINES, failure_text
from cpadvisor.report.table import cell_width
from cpadvisor.watch.failure import Failure
from cpadvisor.watch.view import RunView

FAILURE = Failure(
    kind="exception",
    headline="rank 1: ValueError: bad token",
    rank=1,
    evidence=("Traceback (most recent call last):", '  File "/code/runtime/data.py", line 12, in read'),
    mend="mend what the last line names",
    command="cpadvisor logs r --rank 1",
)
VIEW = RunView(run="r", directory=Path("/runs/r"), state="failed", failure=FAILURE)


def test_what_went_wrong_comes_first_then_the_proof_the_mend_and_the_command() -> None:
    assert failure_text(VIEW).splitlines() == [
        "failed: rank 1: ValueError: bad token",
        "",
        "  Traceback (most recent call last):",
        '    File "/code/runtime/data.py", line 12, in read',
        "",
        "mend what the last line names",
        "  cpadvisor logs r --rank 1",
    ]


def test_a_run_without_a_failure_has_no_text() -> None:
    assert failure_text(replace(VIEW, failure=None)) == ""


def test_a_failure_without_evidence_or_mend_is_its_headline() -> None:
    view = replace(VIEW, state="out_of_memory", failure=Failure(kind="out_of_memory", headline="GPU 0 is full"))
    assert failure_text(view) == "out of memory: GPU 0 is full"


texts = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.just(" "), max_size=600)


@given(headline=texts, evidence=st.lists(texts, max_size=12), mend=st.none() | texts, command=st.none() | texts)
def test_every_failure_fits_on_a_screen(
    headline: str, evidence: list[str], mend: str | None, command: str | None
) -> None:
    command = None if command is None else command[:200]
    failure = Failure(kind="exception", headline=headline, evidence=tuple(evidence), mend=mend, command=command)
    lines = failure_text(replace(VIEW, failure=failure)).split("\n")
    assert len(lines) <= MOST_LINES
    assert all(cell_width(line) <= COLUMNS for line in lines)


@pytest.mark.parametrize("length", [20, 60, 79, 150])
def test_a_long_command_can_be_copied_as_it_stands(length: int) -> None:
    path = "/" + "d" * length
    failure = replace(FAILURE, command=f"echo {path} --lock cp=4 --seq 8192 second")
    _, _, printed = failure_text(replace(VIEW, failure=failure)).partition("names\n")
    told = subprocess.run(["/bin/sh", "-c", printed], capture_output=True, text=True, check=True).stdout
    assert told == f"{path} --lock cp=4 --seq 8192 second\n"
