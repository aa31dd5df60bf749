"""A mend that is applied removes its finding, brings no error, and leaves the rest of the file as it was."""

import os

import pytest
import yaml
from faults_of_configs import IN_A_CONFIG
from sound_subjects import write_config

from cpadvisor.doctor.config import examine_config
from cpadvisor.doctor.diagnosis import Mend
from cpadvisor.doctor.mending import apply, preview
from cpadvisor.errors import ConfigError, WriteError
from cpadvisor.probe.recorded import load_node
from cpadvisor.write.edit import REMOVE, Change

MENDED_BY_HAND = {"more GPUs than there are"}
"""No line of the config mends it."""


def first_with_changes(one):
    return next((mend for mend in one.mends if mend.changes), None)


@pytest.mark.parametrize(("name", "machine", "changes", "rule"), [row[:4] for row in IN_A_CONFIG])
def test_the_first_mend_of_each_fault_removes_it_and_adds_no_error(name, machine, changes, rule, tmp_path):
    changes = dict(changes)
    path = write_config(tmp_path, axolotl=changes.pop("axolotl", False), **changes)
    before = examine_config(path, node=load_node(machine))
    one = next(found for found in before if found.rule == rule)
    mend = first_with_changes(one)
    assert (mend is None) == (name in MENDED_BY_HAND)
    if mend is None:
        return
    shown = preview(path, mend)
    diff, backup = apply(path, mend)
    assert diff == shown and diff.startswith("--- ")
    assert backup is not None and backup.name == "job.yaml.bak"
    after = examine_config(path, node=load_node(machine))
    assert [found.severity for found in after if found.rule == rule] in ([], ["ok"])
    errors = {found.rule for found in before if found.severity == "error"}
    assert {found.rule for found in after if found.severity == "error"} <= errors - {rule}


def test_a_memory_mend_writes_the_prediction_that_comes_true_of_the_changed_file(tmp_path):
    prediction = {"peak_bytes": 1, "low_bytes": 1, "high_bytes": 1, "step_s": 1.0, "first_loss": 11.7618}
    path = write_config(
        tmp_path,
        sequence_len=131072,
        context_parallel_size=1,
        dp_shard_size=8,
        cpadvisor={"recompute": {"none": 32}, "prediction": prediction},
    )
    node = load_node("dgx-h100")
    memory = next(one for one in examine_config(path, node=node) if one.rule == "memory")
    apply(path, first_with_changes(memory))
    written = yaml.safe_load(path.read_text())["cpadvisor"]["prediction"]
    again = next(one for one in examine_config(path, node=node) if one.rule == "memory")
    assert f"peak {written['peak_bytes'] / 2**30:.1f} GiB" in again.evidence
    assert written["low_bytes"] < written["peak_bytes"] < written["high_bytes"]
    assert written["first_loss"] == 11.7618, "no knob changes the first loss"


def test_a_change_that_makes_the_prediction_untrue_takes_it_out(tmp_path):
    path = write_config(tmp_path, sequence_len=32770, cpadvisor={"prediction": {"peak_bytes": 7}})
    mend = Mend(text="write sequence_len: 32768", changes=(Change(key="sequence_len", value=32768),))
    diff, _ = apply(path, mend)
    assert "-    peak_bytes: 7" in diff
    assert "prediction" not in yaml.safe_load(path.read_text())["cpadvisor"]


def test_a_change_of_the_learning_rate_leaves_the_prediction(tmp_path):
    path = write_config(tmp_path, cpadvisor={"prediction": {"peak_bytes": 7}})
    apply(path, Mend(text="slower", changes=(Change(key="learning_rate", value=1e-6),)))
    assert yaml.safe_load(path.read_text())["cpadvisor"]["prediction"] == {"peak_bytes": 7}


def test_a_changed_line_says_that_the_doctor_decided_it_and_the_header_predicts_no_more(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(
        "# Predicted peak: 62.7 GiB (55 GiB to 70 GiB) of 140 GiB on each GPU\n"
        "# Note: times rest on the hardware table\n"
        "gradient_checkpointing: false  # plan: everything fits\n"
        "max_grad_norm: 1.0  # card: C8\n"
        "cpadvisor:  # plan: what axolotl has no key for\n"
        "  model: tiny\n"
        "  prediction: {peak_bytes: 1}\n"
    )
    apply(path, Mend(text="recompute", changes=(Change(key="gradient_checkpointing", value=True),)))
    assert path.read_text() == (
        "# Note: times rest on the hardware table\n"
        "gradient_checkpointing: true   # doctor\n"
        "max_grad_norm: 1.0  # card: C8\n"
        "cpadvisor:  # plan: what axolotl has no key for\n"
        "  model: tiny\n"
    )


def test_looking_at_a_mend_writes_nothing(tmp_path):
    path = write_config(tmp_path)
    old = path.read_text()
    assert "-learning_rate" in preview(path, Mend(text="x", changes=(Change(key="learning_rate", value=2e-5),)))
    assert path.read_text() == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["job.yaml"]


def test_a_mend_that_changes_nothing_keeps_no_backup(tmp_path):
    path = write_config(tmp_path)
    mend = Mend(text="x", changes=(Change(key="micro_batch_size", value=1),))
    assert (preview(path, mend), apply(path, mend)) == ("", ("", None))


def test_a_mend_that_would_bring_an_error_is_refused_and_the_file_stays(tmp_path):
    path = write_config(tmp_path)
    old = path.read_text()
    with pytest.raises(ConfigError, match=r"is unchanged, for the mend would bring another error \(F3"):
        apply(path, Mend(text="x", changes=(Change(key="sequence_len", value=32770),)))
    assert path.read_text() == old
    assert not (tmp_path / "job.yaml.bak").exists()


@pytest.mark.parametrize(
    ("mend", "words"),
    [
        (Mend(text="drive slowly", command="ulimit -n 4096"), "no line of a config does that; run `ulimit -n 4096`"),
        (Mend(text="drive slowly"), "drive slowly: no line of a config does that"),
    ],
)
def test_a_mend_without_changes_is_refused_with_its_command(mend, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        preview(write_config(tmp_path), mend)


def test_a_file_that_has_gone_or_is_no_yaml_any_more_is_told(tmp_path):
    mend = Mend(text="x", changes=(Change(key="fsdp_config", value=REMOVE),))
    with pytest.raises(ConfigError, match="there is no such file any more"):
        apply(tmp_path / "gone.yaml", mend)
    path = write_config(tmp_path)
    path.write_text("a: [\n")
    with pytest.raises(ConfigError, match="not YAML"):
        apply(path, mend)
    assert path.read_text() == "a: [\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_leaves_the_file_as_it_was(tmp_path):
    path = write_config(tmp_path)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(WriteError, match="choose a place that you may write to"):
            apply(path, Mend(text="x", changes=(Change(key="seed", value=7),)))
    finally:
        tmp_path.chmod(0o700)
