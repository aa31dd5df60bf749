import copy
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpadvisor.catalog import find_gpu
from cpadvisor.errors import UsageError
from cpadvisor.fabric import islands
from cpadvisor.node import Gpu, Holder, Host, Nic, Node
from cpadvisor.probe import recorded
from cpadvisor.probe.recorded import load_node, node_from_json, node_json, shipped

NODE = Node(
    name="lab",
    source="nvml",
    gpus=(
        Gpu(index=0, name="NVIDIA L40S", memory_bytes=48305799168, used_bytes=5, numa=0, cpus="0-7", uuid="GPU-a"),
        Gpu(index=3, name="NVIDIA L40S"),
    ),
    links=((None, "PHB"), ("PHB", None)),
    host=Host(cpus=16, memory_bytes=2**36),
    nics=(Nic(name="mlx5_0", links=("PIX", None)),),
    holders=(Holder(gpu=3, pid=12, user="ada", command="python train.py", used_bytes=None),),
    warnings=("CUDA_VISIBLE_DEVICES=0,3 hides GPU1, GPU2",),
)
SHIPPED = [name for name in shipped() if name != "cpu"]


def test_a_node_survives_json_text():
    assert node_from_json(json.loads(json.dumps(node_json(NODE)))) == NODE


def test_the_object_has_the_fields_that_other_programs_rely_on():
    document = node_json(NODE)
    assert list(document) == [
        "schema", "name", "source", "host", "gpus", "links", "islands", "nics", "ring", "holders", "warnings",
    ]  # fmt: skip
    assert document["schema"] == 1
    assert document["islands"] == [[0], [3]]
    assert document["ring"] == {"order": [0, 3], "worst": "PHB"}
    assert document["links"] == [[None, "PHB"], ["PHB", None]]
    assert any("no NVLink" in warning for warning in document["warnings"])
    assert node_json(NODE.subset((3,)))["ring"] is None


codes = st.sampled_from(("NV4", "NV18", "PIX", "NODE", "SYS", None))


@st.composite
def nodes(draw):
    size = draw(st.integers(1, 6))
    drawn = {(a, b): draw(codes) for b in range(size) for a in range(b)}
    links = tuple(tuple(None if a == b else drawn[min(a, b), max(a, b)] for b in range(size)) for a in range(size))
    whole = st.one_of(st.none(), st.integers(0, 2**40))
    words = st.one_of(st.none(), st.text(max_size=8))
    gpus = tuple(
        Gpu(index=index, name=draw(words), memory_bytes=draw(whole), used_bytes=draw(whole), cpus=draw(words))
        for index in range(size)
    )
    nics = tuple(
        Nic(name=f"mlx5_{k}", links=tuple(draw(codes) for _ in range(size))) for k in range(draw(st.integers(0, 2)))
    )
    return Node(name="any", source="recorded", gpus=gpus, links=links, nics=nics)


@settings(max_examples=60, deadline=None)
@given(nodes())
def test_any_node_survives_json(node):
    assert node_from_json(json.loads(json.dumps(node_json(node)))) == node


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_machine_is_a_known_product_with_nvml_memory_and_true_derived_fields(name):
    node = load_node(name)
    assert node.name == name and node.source == "recorded"
    for gpu in node.gpus:
        spec = find_gpu(gpu.name or "")
        assert spec is not None and spec.memory_bytes == gpu.memory_bytes
    path = recorded._MACHINES / f"{name}.json"
    assert json.loads(path.read_text(encoding="utf-8")) == node_json(node)


def test_the_machines_of_the_documentation_are_shipped():
    asked = "dgx-h100 dgx-a100-80g dgx-a100-40g hgx-h200 h200-x2 hgx-b200 gb200-tray pcie-l40s-8 rtx4090-8 dgx-1v cpu"
    assert set(asked.split()) <= set(shipped())


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("dgx-h100", ((0, 1, 2, 3, 4, 5, 6, 7),)),
        ("dgx-1v", ((0, 1, 2, 3), (4, 5, 6, 7))),
        ("pcie-h100-nvl-pairs-8", ((0, 3), (1, 2), (4, 7), (5, 6))),
        ("pcie-a100-4", ((0, 1), (2, 3))),
        ("rtx4090-2", ((0,), (1,))),
    ],
)
def test_shipped_machines_have_the_islands_of_their_hardware(name, groups):
    assert islands(load_node(name)) == groups


def test_nvlink_pairs_of_the_azure_machine_span_memory_nodes():
    node = load_node("pcie-a100-4")
    assert node.link(0, 1) == "NV12" and [gpu.numa for gpu in node.gpus] == [0, 1, 2, 3]


def test_cpu_is_built_from_this_host():
    node = load_node("cpu")
    assert node.host is not None
    assert [gpu.memory_bytes for gpu in node.gpus] == [node.host.memory_bytes // 2] * 2


def test_a_file_of_inspect_is_loaded_by_its_path(tmp_path):
    path = tmp_path / "lab.json"
    path.write_text(json.dumps(node_json(NODE)), encoding="utf-8")
    assert load_node(str(path)) == NODE


def test_an_unknown_machine_names_the_nearest_and_all():
    with pytest.raises(UsageError, match=r"'dgx-h10' is neither .* did you mean dgx-h100\? shipped are cpu, a40-8"):
        load_node("dgx-h10")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is no JSON, line 1"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[1]", "a machine is a JSON object"),
        (b'{"schema": 2}', "schema is 2, this version reads 1"),
        (b"[" * 100_000, "is no JSON"),
    ],
)
def test_a_file_that_is_no_machine_says_why(tmp_path, content, message):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        load_node(str(path))
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder_say_so(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        load_node(str(tmp_path / "gone.json"))
    with pytest.raises(UsageError, match="directory"):
        load_node(str(tmp_path))


def spoiled(path, value):
    document = copy.deepcopy(node_json(NODE))
    *parents, last = path
    target = document
    for key in parents:
        target = target[key]
    target[last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("gpus",), [], "gpus holds 1 to 64 GPUs, not 0"),
        (("gpus",), "two", "gpus is a list of objects, not 'two'"),
        (("gpus", 1, "index"), 0, r"gpus have indices that differ, not \[0, 0\]"),
        (("gpus", 1, "index"), None, r"gpus\[1\].index is the GPU's number"),
        (("gpus", 0, "memory_bytes"), "80g", r"gpus\[0\].memory_bytes is a whole number from 0 up or null, not '80g'"),
        (("gpus", 0, "memory_bytes"), True, r"gpus\[0\].memory_bytes is a whole number"),
        (("gpus", 0, "name"), 7, r"gpus\[0\].name is a text or null, not 7"),
        (("links",), [[None, "PHB"]], "links has 2 rows of 2 codes"),
        (("links", 0, 1), "NVLINK", r"links\[0\]\[1\] is NV#, PIX"),
        (("links", 0, 1), "SYS", r"links\[1\]\[0\] equals links\[0\]\[1\], 'SYS', not 'PHB'"),
        (("links", 0, 0), "X", r"links\[0\]\[0\] is NV#"),
        (("links", 0, 0), "PIX", r"links\[0\]\[0\] is null"),
        (("nics", 0, "links"), ["PIX"], r"nics\[0\].links has 2 codes"),
        (("host",), 5, "host is an object or null"),
        (("host", "cpus"), 0, "host has cpus and memory_bytes above 0"),
        (("source",), "guess", "source is one of nvml, topo, recorded, not 'guess'"),
        (("holders", 0, "gpu"), 1, r"holders\[0\].gpu is one of \[0, 3\], not 1"),
        (("warnings",), [1], "warnings is a list of texts"),
    ],
)
def test_a_wrong_field_is_named_by_its_path_with_rule_and_value(path, value, message):
    with pytest.raises(UsageError, match=message):
        node_from_json(spoiled(path, value))


def test_all_wrong_fields_are_named_at_once():
    document = spoiled(("gpus", 0, "numa"), -1)
    document["links"][0][1] = "FAST"
    with pytest.raises(UsageError) as caught:
        node_from_json(document, name="node lab.json")
    assert "gpus[0].numa" in str(caught.value) and "links[0][1]" in str(caught.value)
    assert str(caught.value).startswith("node lab.json: ")


def test_what_follows_from_the_links_is_derived_anew():
    document = node_json(load_node("dgx-1v"))
    document["ring"], document["islands"] = None, []
    assert node_json(node_from_json(document)) == node_json(load_node("dgx-1v"))
    assert load_node("dgx-1v").warnings == ()
    assert node_json(replace(NODE, warnings=()))["warnings"] == [
        "no NVLink on this node: every pair of GPUs goes over PCIe, at worst PHB"
    ]
