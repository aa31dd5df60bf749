"""Paths that a config names."""


def test_a_dataset_that_is_not_there_names_where_it_was_looked_for(only, tmp_path):
    finding = only(datasets=[{"path": "data/a.jsonl", "type": "completion"}])
    assert (finding.rule, finding.severity) == ("dataset-path", "error")
    assert str(tmp_path / "data" / "a.jsonl") in finding.message


def test_a_hub_name_is_fine_for_axolotl_and_not_for_the_bundled_trainer(found, only):
    entry = [{"path": "tatsu-lab/alpaca", "type": "completion"}]
    assert found(datasets=entry) == ()
    assert only(engine="cpadvisor", datasets=entry).rule == "dataset-path"


def test_an_empty_dataset_is_an_error(only, tmp_path):
    (tmp_path / "a.txt").write_text("")
    finding = only(engine="cpadvisor", datasets=[{"path": "a.txt", "type": "completion"}])
    assert (finding.rule, finding.severity) == ("dataset-empty", "error")


def test_a_sequence_longer_than_the_data_names_both_lengths(only, tmp_path):
    (tmp_path / "a.txt").write_text("x" * 1000)
    finding = only(engine="cpadvisor", datasets=[{"path": "a.txt", "type": "completion"}])
    assert (finding.rule, finding.severity) == ("length-data", "error")
    assert "1,000 bytes, fewer than the 32,768 tokens" in finding.message


def test_a_folder_of_data_is_fine_for_axolotl_unless_it_is_empty(found, only, tmp_path):
    (tmp_path / "data").mkdir()
    entry = [{"path": str(tmp_path / "data"), "type": "completion"}]
    assert only(datasets=entry).rule == "dataset-empty"
    (tmp_path / "data" / "a.jsonl").write_text("{}\n")
    assert found(datasets=entry) == ()
    assert only(engine="cpadvisor", datasets=entry).rule == "dataset-path"


def test_prompts_are_for_axolotl(only, tmp_path):
    (tmp_path / "a.txt").write_text("x" * 40000)
    finding = only(engine="cpadvisor", datasets=[{"path": "a.txt", "type": "alpaca"}])
    assert finding.rule == "dataset-type"


def test_output_into_a_file_or_below_one_is_an_error(only, tmp_path):
    (tmp_path / "file").write_text("")
    for target in ("file", "file/out"):
        finding = only(output_dir=target)
        assert (finding.rule, finding.severity) == ("output-dir", "error")
        assert str(tmp_path / "file") in finding.message


def test_output_into_a_folder_without_permission_is_an_error(only, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert "not writable" in only().message


def test_a_local_model_has_to_be_there_with_its_config(only, tmp_path):
    assert only(base_model="./models/x", model=None).severity == "error"
    (tmp_path / "models").mkdir()
    assert "holds no config.json" in only(base_model="./models", model=None).message
    assert only(base_model="tiny", model=None).severity == "warning"
