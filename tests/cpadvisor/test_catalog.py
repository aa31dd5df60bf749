"""The catalogue against published figures and against what people type."""

import json

import pytest

from cpadvisor.catalog import (
    config_json,
    find_gpu,
    find_model,
    load_gpus,
    load_models,
    published_parameters,
    require_gpu,
)
from cpadvisor.errors import ModelError, UsageError
from cpadvisor.hardware import link_bytes_per_s

# The counts on the models' pages of the Hugging Face hub (safetensors metadata).
PUBLISHED = {
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "mistral-7b": 7_248_023_552,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
    # 2 x 196,864 in layers, 2 x 384 x 128 in the vocabulary matrices, 128 in the last norm.
    "tiny": 492_160,
}


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_a_shape_adds_up_to_the_published_count(name, count):
    assert load_models()[name].parameters == count
    assert published_parameters()[name] == count


def test_every_shipped_model_is_in_the_table_of_published_counts():
    assert set(load_models()) == set(PUBLISHED)


def test_a_name_is_found_whatever_its_case_and_by_its_hub_name():
    assert find_model("Llama-3.1-8B").kv_heads == 8
    assert find_model("qwen/Qwen3-0.6B").name == "qwen3-0.6b"


def test_an_unknown_model_names_the_near_ones():
    with pytest.raises(ModelError, match=r"'lama-3\.1-8b' is not known; nearest: llama-3\.1-8b"):
        find_model("lama-3.1-8b")


def test_a_folder_is_read_and_named_after_itself(tmp_path):
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config_json(find_model("qwen3-0.6b"))))
    spec = find_model(str(folder))
    assert (spec.name, spec.parameters, spec.hub_id) == ("my-model", 596_049_920, None)
    assert find_model(str(folder / "config.json")) == spec


def test_a_folder_with_weights_is_what_a_config_names(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config_json(find_model("tiny"))))
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert find_model(str(tmp_path)).hub_id == str(tmp_path.resolve())


def test_a_folder_without_a_config_says_so(tmp_path):
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        find_model(str(tmp_path))


def test_a_path_that_is_not_there_is_no_misspelt_name(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        find_model(str(tmp_path / "config.json"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{\n  "hidden_size": 64,\n  oops\n}', r"config\.json:3: not JSON"),
        ("[1]", r"config\.json:1: holds a list, not an object"),
        ('{"model_type": "llama",\n"hidden_size": "big"}', r"config\.json:2: hidden_size is 'big'"),
    ],
)
def test_a_broken_config_names_its_path_and_line(tmp_path, text, words):
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(ModelError, match=words):
        find_model(str(file))


def test_a_config_that_is_no_text_says_where(tmp_path):
    file = tmp_path / "config.json"
    file.write_bytes(b"{\xff}")
    with pytest.raises(ModelError, match=r"UTF-8 \(byte 1\)"):
        find_model(str(file))


@pytest.mark.parametrize(
    ("product", "key"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-80g"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H100 NVL", "h100-nvl"),
        ("NVIDIA A100-SXM4-80GB", "a100-80g"),
        ("A100-SXM4-80GB", "a100-80g"),
        ("NVIDIA A100-SXM4-40GB", "a100-40g"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie-80g"),
        ("NVIDIA A100-PCIE-40GB", "a100-pcie-40g"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA GH200 480GB", "gh200"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA GB200", "gb200"),
        ("NVIDIA B300 SXM6 AC", "b300"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA A40", "a40"),
        ("NVIDIA RTX A6000", "rtx-a6000"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA GeForce RTX 5090", "rtx-5090"),
        ("NVIDIA GeForce RTX 3090", "rtx-3090"),
        ("Tesla V100-SXM2-32GB", "v100-32g"),
        ("Tesla V100-SXM2-16GB", "v100-16g"),
        ("cpu", "cpu"),
    ],
)
def test_product_names_of_nvml_are_told_apart(product, key):
    spec = find_gpu(product)
    assert spec is not None
    assert spec.key == key
    assert find_gpu(key) == spec


@pytest.mark.parametrize("product", ["NVIDIA L40", "NVIDIA A10G", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA H20"])
def test_a_product_that_is_not_in_the_table_is_not_guessed(product):
    assert find_gpu(product) is None


def test_an_unknown_gpu_lists_the_keys_with_the_near_ones_first():
    with pytest.raises(UsageError, match=r"'h100' is not known; nearest: h100-80g, h100-pcie, h100-nvl;.*rtx-4090"):
        require_gpu("h100")


def test_memory_is_what_nvml_reports_and_not_the_sold_figure():
    # nvidia-smi: 81559MiB, 143771MiB, 183359MiB.
    assert load_gpus()["h100-80g"].memory_bytes == 81_559 * 2**20
    assert load_gpus()["h200"].memory_bytes == 143_771 * 2**20
    assert load_gpus()["b200"].memory_bytes == 183_359 * 2**20


def test_a_bond_of_eighteen_links_carries_what_nccl_assumes():
    # nccl src/graph/topo.h: 20.6 GB/s a link of Hopper, 20.0 of Ampere.
    assert link_bytes_per_s(load_gpus()["h100-80g"], "NV18") == pytest.approx(370.8e9)
    assert link_bytes_per_s(load_gpus()["a100-80g"], "NV12") == pytest.approx(240e9)


def test_geforce_products_have_no_peer_access_over_pcie():
    without = {key for key, spec in load_gpus().items() if not spec.p2p}
    assert without == {"rtx-3090", "rtx-4090", "rtx-5090", "l4"}


@pytest.mark.parametrize("key", load_gpus())
def test_every_value_has_a_source_and_reached_rates_stay_below_the_peak(key):
    spec = load_gpus()[key]
    assert spec.source.count(": ") >= 9
    assert "estimate" in spec.source or "measured" in spec.source
    assert 0 < spec.attention_backward_flops_per_s <= spec.peak_flops_per_s
    assert 0 < spec.attention_forward_flops_per_s <= spec.matmul_flops_per_s <= spec.peak_flops_per_s
