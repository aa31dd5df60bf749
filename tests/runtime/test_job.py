from pathlib import Path

import pytest
import torch
from tiny_run import write_folder

from runtime import config as configs
from runtime.errors import ConfigError
from runtime.job import uses_bf16


@pytest.mark.parametrize(
    ("device", "bf16", "message"),
    [
        ("cpu", True, "bf16 true, but torch sees no GPU here; write bf16: auto or false"),
        ("cuda", False, "bf16 false, but attention kernels of GPUs take no float32; write bf16: auto or true"),
    ],
)
def test_a_precision_that_the_device_lacks_is_refused(tmp_path: Path, device: str, bf16: bool, message: str) -> None:
    config = configs.load(write_folder(tmp_path, bf16=bf16), world=1)
    with pytest.raises(ConfigError) as caught:
        uses_bf16(config, torch.device(device))
    assert caught.value.problems == (message,)
    agreeing = configs.load(write_folder(tmp_path, bf16="auto"), world=1)
    assert uses_bf16(agreeing, torch.device(device)) is not bf16
