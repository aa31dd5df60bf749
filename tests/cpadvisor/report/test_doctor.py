"""What the doctor found, at 80 columns."""

import pytest
from sound_subjects import write_config

from cpadvisor.doctor.config import examine_config
from cpadvisor.doctor.diagnosis import Diagnosis, Mend
from cpadvisor.doctor.symptoms import SYMPTOMS, guided
from cpadvisor.probe.recorded import load_node
from cpadvisor.report.doctor import counts_label, doctor_text, guided_text
from cpadvisor.report.table import cell_width
from cpadvisor.write.edit import Change

SHM = Diagnosis(
    rule="shm",
    severity="warning",
    title="/dev/shm has 64.0 MiB free",
    evidence="64.0 MiB free of 64.0 MiB; 1.0 GiB is needed",
    effect="workers of a data loader end with a bus error",
    mends=(
        Mend(text="start the container with more", command="docker run --shm-size=1g …"),
        Mend(text="or enlarge it here", command="sudo mount -o remount,size=8g /dev/shm"),
    ),
    card=("D2",),
)
SPLIT = Diagnosis(
    rule="F3",
    severity="error",
    title="it does not split",
    evidence="10,000 tokens over cp 3\nof this file",
    mends=(
        Mend(text="write sequence_len: 9996", changes=(Change(key="sequence_len", value=9996),), command="launch"),
        Mend(text="or 10002", changes=(Change(key="sequence_len", value=10002),)),
    ),
)
WELL = tuple(Diagnosis(rule=rule, severity="ok", title=rule, evidence="") for rule in ("driver", "disk"))


def test_findings_are_told_in_full_and_what_is_well_in_a_line():
    text = doctor_text((SPLIT, SHM, *WELL), subject="job.yaml", target="job.yaml", width=80)
    assert (
        text
        == """\
job.yaml: 1 error, 1 warning, 2 ok

error      F3: it does not split
  evidence 10,000 tokens over cp 3
           of this file
  mend 1   write sequence_len: 9996
           $ cpadvisor doctor job.yaml --apply F3
  mend 2   or 10002

warning    shm: /dev/shm has 64.0 MiB free (D2)
  evidence 64.0 MiB free of 64.0 MiB; 1.0 GiB is needed
  effect   workers of a data loader end with a bus error
  mend 1   start the container with more
           $ docker run --shm-size=1g …
  mend 2   or enlarge it here
           $ sudo mount -o remount,size=8g /dev/shm

ok         driver, disk"""
    )


def test_a_symptom_is_told_step_by_step_and_leads_on_to_the_machine():
    text = guided_text((WELL[0], SHM), subject="run a", symptom="hang", target="a", width=80)
    assert text.startswith("run a, symptom hang: 1 warning, 1 ok\n\n1. ok        driver: driver\n  seen ")
    assert "\n\n2. warning   shm: /dev/shm has 64.0 MiB free (D2)\n  seen     64.0 MiB" in text
    assert text.endswith("then the machine itself\n           $ cpadvisor doctor --symptom hang")


def test_a_symptom_of_the_machine_does_not_lead_to_itself():
    text = guided_text(WELL, subject="this machine", symptom="hang", target=None, width=80)
    assert "then the machine" not in text


def test_nothing_looked_at_is_said():
    assert counts_label(()) == "nothing looked at"


@pytest.mark.parametrize("width", [60, 80, 100])
def test_no_line_of_prose_is_wider_than_the_terminal(width, tmp_path):
    path = write_config(tmp_path, sequence_len=131072, learning_rate=0.5, cpadvisor={"recompute": {"none": 32}})
    found = examine_config(path, node=load_node("dgx-h100"))
    texts = [doctor_text(found, subject="s", target="job.yaml", width=width)]
    texts += [
        guided_text(guided(found, symptom), subject="s", symptom=symptom, target="job.yaml", width=width)
        for symptom in SYMPTOMS
    ]
    for line in "\n".join(texts).splitlines():
        assert cell_width(line) <= width or line.strip().startswith("$ "), line
