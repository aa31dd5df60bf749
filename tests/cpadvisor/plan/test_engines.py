import pytest

from cpadvisor.errors import UsageError
from cpadvisor.plan.engines import find_engine
from cpadvisor.plan.workload import ENGINES


def test_every_engine_of_the_workload_has_a_record():
    assert [find_engine(name).name for name in ENGINES] == list(ENGINES)


def test_an_unknown_engine_names_those_there_are():
    with pytest.raises(UsageError, match=r"axolotl-9.*cpadvisor, axolotl-0.21, axolotl-0.20"):
        find_engine("axolotl-9")
