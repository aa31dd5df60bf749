import pytest
import torch

from runtime import faults
from runtime.errors import ConfigError
from runtime.faults import Fault, parse
from runtime.settings import Sizes

SIZES = Sizes(dp_shard=2, cp=2, rank_order=None)


def problems(text: str, sizes: Sizes = SIZES) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse(text, sizes)
    assert str(caught.value).startswith("CPADVISOR_FAULT: ")
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "kind", "rank", "step"),
    [
        ("drop-exchange:rank=1", "drop-exchange", 1, None),
        ("drop-exchange", "drop-exchange", None, None),
        ("exception:rank=1,step=3", "exception", 1, 3),
        ("nan:step=3", "nan", None, 3),
        ("out-of-memory:step=2,rank=0", "out-of-memory", 0, 2),
        ("out-of-memory:step=0", "out-of-memory", None, 0),
        ("hang:rank=3,step=3", "hang", 3, 3),
    ],
)
def test_a_fault_is_read_from_its_text(text: str, kind: str, rank: int | None, step: int | None) -> None:
    fault = parse(text, SIZES)
    assert fault == Fault(text=text, kind=kind, rank=rank, step=step)
    assert text in fault.announcement
    assert [fault.is_of(each) for each in range(4)] == [rank in (None, each) for each in range(4)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nann:step=3", "unknown fault 'nann'; use one of drop-exchange, exception, out-of-memory, hang, nan"),
        ("Hang:step=3", "unknown fault 'Hang'"),
        (" nan:step=3", "unknown fault ' nan'"),
        ("nan", "nan needs the step that it strikes in; write step=1"),
        ("nan:", "'' is neither rank=N nor step=N"),
        ("nan:step=0", "nan has no step 0; use step=1"),
        ("nan:step=-1", "step '-1' is not a whole number from 0"),
        ("nan:step=³", "step '³' is not a whole number from 0"),
        (f"nan:step={'9' * 5000}", "is not a whole number from 0 to 999999999"),
        ("nan:step=3,", "'' is neither rank=N nor step=N"),
        ("nan:step=3,step=4", "step stands twice; keep one of them"),
        ("nan:step=3,gpu=1", "'gpu=1' is neither rank=N nor step=N"),
        ("hang:rank=4,step=1", "rank 4 is not one of 4; ranks are 0 to 3"),
        ("drop-exchange:step=1", "drop-exchange lasts the whole run; remove step=1"),
    ],
)
def test_a_text_that_names_no_fault_is_refused(text: str, message: str) -> None:
    assert any(message in problem for problem in problems(text))


def test_every_reason_comes_at_once() -> None:
    assert len(problems("nan:rank=9,step=0,x=1")) == 3


def test_a_ring_of_one_has_nothing_to_drop() -> None:
    whole = Sizes(dp_shard=2, cp=1, rank_order=None)
    assert "needs context_parallel_size above 1" in problems("drop-exchange:rank=1", whole)[0]


def test_nothing_is_planted_unless_the_environment_asks() -> None:
    assert faults.asked({}, SIZES) is None
    assert faults.asked({"CPADVISOR_FAULT": ""}, SIZES) is None
    assert faults.asked({"CPADVISOR_FAULT": "nan:step=1"}, SIZES) == parse("nan:step=1", SIZES)


def test_a_fault_strikes_in_its_step_alone() -> None:
    cpu = torch.device("cpu")
    fault = parse("exception:step=3", SIZES)
    for step in (0, 1, 2, 4):
        faults.strike(fault, step=step, device=cpu)
    with pytest.raises(RuntimeError, match="planted fault exception:step=3"):
        faults.strike(fault, step=3, device=cpu)
    with pytest.raises(torch.OutOfMemoryError, match=r"^CUDA out of memory\. Tried to allocate"):
        faults.strike(parse("out-of-memory:step=3", SIZES), step=3, device=cpu)
    faults.strike(None, step=3, device=cpu)
    faults.strike(parse("nan:step=3", SIZES), step=3, device=cpu)


def test_a_loss_is_spoilt_in_its_step_alone() -> None:
    fault, loss = parse("nan:step=3", SIZES), torch.tensor(2.0)
    assert faults.spoil(fault, loss, step=2) is loss
    assert faults.spoil(None, loss, step=3) is loss
    assert faults.spoil(parse("exception:step=3", SIZES), loss, step=3) is loss
    assert torch.isnan(faults.spoil(fault, loss, step=3))
