import pytest

from cpadvisor.errors import MissingError
from cpadvisor.node import Gpu
from cpadvisor.probe.nvml_session import NoGpuError
from cpadvisor.probe.visible import visible_indices

GPUS = tuple(Gpu(index=index, uuid=f"GPU-{index}f00-aa") for index in range(4))


@pytest.mark.parametrize(
    ("value", "indices"),
    [
        ("0,1,2,3", (0, 1, 2, 3)),
        ("2", (2,)),
        (" 3 , 0 ", (0, 3)),
        ("1,1", (1,)),
        ("01", (1,)),
        ("GPU-3f00-aa,GPU-0", (0, 3)),
        ("0,-1,2", (0,)),
        ("1,,2", (1,)),
    ],
)
def test_entries_are_read_as_cuda_reads_them(value, indices):
    assert visible_indices(value, GPUS)[0] == indices


def test_hidden_gpus_are_named():
    assert visible_indices("0,2", GPUS)[1] == ("CUDA_VISIBLE_DEVICES=0,2 hides GPU1, GPU3",)


def test_an_entry_that_names_no_gpu_ends_the_list_with_a_warning():
    indices, warnings = visible_indices("1,9,0", GPUS)
    assert indices == (1,)
    assert "9 is no usable GPU (there are 0,1,2,3)" in warnings[0]


@pytest.mark.parametrize("value", ["", " ", "-1"])
def test_hiding_every_gpu_on_purpose_is_no_fault(value):
    with pytest.raises(NoGpuError, match="hides every GPU"):
        visible_indices(value, GPUS)


@pytest.mark.parametrize("value", ["7", "GPU-", "none", "9" * 5000])
def test_a_list_that_leaves_nothing_is_an_error(value):
    with pytest.raises(MissingError, match="leaves no GPU; unset it or use 0,1,2,3") as caught:
        visible_indices(value, GPUS)
    assert not isinstance(caught.value, NoGpuError)


def test_a_mig_slice_is_refused_by_its_name():
    with pytest.raises(MissingError, match="names a MIG slice"):
        visible_indices("MIG-5c9a", GPUS)
