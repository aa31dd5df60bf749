from pathlib import Path

import pytest

from runtime.bench.request import Offer, read
from runtime.errors import ConfigError

GPU = Offer(ranks=2, device="cuda", methods=("ring",), kernels=("cudnn", "flash"))
NOTHING_ASKED = {
    "sizes": None,
    "heads": None,
    "methods": None,
    "kernels": None,
    "passes": None,
    "repeats": 10,
    "measures_all": False,
    "json_path": None,
}


def asked(offer=GPU, **words):
    return read(offer, **{**NOTHING_ASKED, **words})


def refusal(**words):
    with pytest.raises(ConfigError) as caught:
        asked(**words)
    assert caught.value.exit_code == 2
    return caught.value.problems


def test_nothing_asked_on_gpus_is_six_lengths_two_head_settings_and_all_kernels():
    request = asked()
    assert request.sizes == (8192, 16384, 32768, 65536, 131072, 262144)
    assert request.heads == ((32, 8), (32, 32))
    assert request.kernels == ("cudnn", "flash")
    assert request.passes == ("forward", "backward", "both")
    assert request.leaves_out


def test_a_cpu_gets_tiny_rows():
    request = asked(Offer(ranks=2, device="cpu", methods=("ring",), kernels=("cpu",)))
    assert request.sizes == (1024, 2048)
    assert request.heads == ((4, 2),)


def test_words_are_read_in_any_order_and_each_once():
    request = asked(sizes="16K,8192,8k", heads="32", passes="both,fwd", kernels="flash")
    assert request.sizes == (8192, 16384)
    assert request.heads == ((32, 32),)
    assert request.passes == ("forward", "both")
    assert request.kernels == ("flash",)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ({"sizes": "1001"}, "--sizes 1001 does not split into 4 equal chunks (2 a rank, 2 ranks); use 1000 or 1004"),
        ({"sizes": "2"}, "--sizes 2 does not split into 4 equal chunks (2 a rank, 2 ranks); use 4"),
        ({"sizes": "8q"}, "--sizes 8q is no number of tokens; write for example 8192 or 8k"),
        (
            {"heads": "32:5"},
            "--heads 32:5: 32 query heads do not split over 5 key/value heads; use 32:4",
        ),
        ({"heads": "0"}, "--heads 0 is not query heads:key/value heads; write for example 32:8"),
        ({"kernels": "cuddn"}, "--kernels cuddn is none of those here (cudnn, flash); did you mean cudnn?"),
        ({"methods": "spiral"}, "--methods spiral is none of those here (ring); use ring"),
        ({"repeats": 0}, "--repeats 0 is below 1; use 1 or more"),
        ({"json_path": Path("/nowhere/x.json")}, "--json /nowhere/x.json cannot be written: no such folder"),
    ],
)
def test_a_word_that_does_not_fit_names_the_rule_and_the_nearest_that_works(words, problem):
    assert refusal(**words) == (problem,)


def test_every_reason_comes_at_once():
    assert len(refusal(sizes="1001,x", heads="32:5", passes="fwd,bkwd")) == 4
