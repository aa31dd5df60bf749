import time

import pytest
import torch

from runtime.stopwatch import Stopwatch


def test_laps_of_one_part_add_up_and_fill_the_step() -> None:
    watch = Stopwatch(torch.device("cpu"))
    watch.start()
    for part, seconds in (("forward", 0.02), ("backward", 0.03), ("forward", 0.02)):
        time.sleep(seconds)
        watch.lap(part)
    split = watch.split_s()
    assert set(split) == {"data", "forward", "backward", "optimizer"}
    assert split["forward"] >= 0.04
    assert split["backward"] >= 0.03
    assert split["data"] == split["optimizer"] == 0.0
    assert sum(split.values()) == pytest.approx(watch.step_s(), abs=0.005)
