from pathlib import Path

import pytest
import yaml

from cpadvisor.errors import ConfigError
from cpadvisor.launch.jobfile import JobFile, read_job, with_absolute_paths


def job_of(folder: Path, text: str) -> JobFile:
    path = folder / "job.yaml"
    path.write_text(text)
    return read_job(path)


def test_the_number_of_processes_is_the_product_of_the_sizes(tmp_path: Path) -> None:
    job = job_of(
        tmp_path, "dp_replicate_size: 2\ndp_shard_size: 3\ntensor_parallel_size: 1\ncontext_parallel_size: 4\n"
    )
    assert job.world == 24
    assert job.layout == {"dp_replicate": 2, "dp_shard": 3, "tp": 1, "cp": 4}
    assert job_of(tmp_path, "sequence_len: 8192\n").world == 1


def test_sizes_that_are_no_whole_numbers_are_all_named_with_their_lines(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        job_of(tmp_path, "seed: 1\ndp_shard_size: 0\ncontext_parallel_size: two\n")
    message = str(caught.value)
    assert "job.yaml:2: dp_shard_size is 0; every size is a whole number from 1 up; use 1" in message
    assert "job.yaml:3: context_parallel_size is 'two'" in message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*job.yaml: No such file or directory"):
        read_job(tmp_path / "job.yaml")


def test_a_cpadvisor_block_decides_the_engine(tmp_path: Path) -> None:
    assert job_of(tmp_path, "base_model: m\ncpadvisor: {method: ring}\n").engine == "cpadvisor"
    assert job_of(tmp_path, "base_model: m\n").engine == "axolotl"


@pytest.mark.parametrize(
    ("text", "wants"),
    [
        ("bf16: true", True),
        ("bf16: false", False),
        ("bf16: auto", None),
        ("seed: 1", None),
        ("bf16: false\ntf32: true", True),
        ("bf16: false\ntf32: false", False),
    ],
)
def test_the_precision_says_whether_gpus_are_wanted(tmp_path: Path, text: str, wants: bool | None) -> None:
    assert job_of(tmp_path, text + "\n").wants_gpu is wants


def test_an_alias_of_a_path_follows_its_anchor(tmp_path: Path) -> None:
    text = "output_dir: &o !!str ./out  # here\nlogging_dir: *o\ndatasets: &d [{path: ./a}]\ntest_datasets: *d\n"
    changed = with_absolute_paths(job_of(tmp_path, text))
    assert changed == text.replace("./out", f"{tmp_path}/out").replace("./a", f"{tmp_path}/a")
    values = yaml.safe_load(changed)
    assert values["output_dir"] == values["logging_dir"] == f"{tmp_path}/out"


def test_only_relative_paths_change_and_every_other_byte_stays(tmp_path: Path) -> None:
    text = (
        "# what I train\n"
        "base_model:   meta-llama/Llama-3.1-8B   # from the hub\n"
        "datasets:\n"
        "  - path: data/a.txt\n"
        "    type: completion  # plain\n"
        "  - {path: '/abs/b.jsonl', type: completion}\n"
        "learning_rate: 2e-5\n"
        'output_dir: "./out dir"  # here\n'
        "cpadvisor:\n"
        "  tokenizer: tok/tokenizer.json\n"
        "  random_weights: yes\n"
    )
    changed = with_absolute_paths(job_of(tmp_path, text))
    expected = (
        text.replace("data/a.txt", f"{tmp_path}/data/a.txt")
        .replace('"./out dir"', f'"{tmp_path}/out dir"')
        .replace("tok/tokenizer.json", f"{tmp_path}/tok/tokenizer.json")
    )
    assert changed == expected


def test_a_base_model_that_is_a_folder_beside_the_file_becomes_absolute(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    changed = with_absolute_paths(job_of(tmp_path, "base_model: weights\ncpadvisor: {}\n"))
    assert changed == f"base_model: {tmp_path}/weights\ncpadvisor: {{}}\n"


def test_a_path_upwards_is_followed(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    changed = with_absolute_paths(job_of(tmp_path / "project", "output_dir: ../out\n"))
    assert changed == f"output_dir: {tmp_path}/out\n"


def test_a_dataset_of_axolotl_may_be_a_name_on_the_hub_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").touch()
    text = "datasets:\n- path: tatsu-lab/alpaca\n- path: mine.jsonl\n- path: ./later.jsonl\n"
    changed = yaml.safe_load(with_absolute_paths(job_of(tmp_path, text)))
    assert [entry["path"] for entry in changed["datasets"]] == [
        "tatsu-lab/alpaca",
        f"{tmp_path}/mine.jsonl",
        f"{tmp_path}/later.jsonl",
    ]


@pytest.mark.parametrize("text", ["cpadvisor: {tokenizer: bytes}\n", "output_dir:\n", "datasets: none\n"])
def test_what_is_no_path_stays(tmp_path: Path, text: str) -> None:
    assert with_absolute_paths(job_of(tmp_path, text)) == text


def test_the_rank_order_is_read_where_it_is_a_list(tmp_path: Path) -> None:
    assert job_of(tmp_path, "cpadvisor: {rank_order: [0, 3, 2, 1]}\n").rank_order == (0, 3, 2, 1)
    assert job_of(tmp_path, "cpadvisor: {method: ring}\n").rank_order is None
