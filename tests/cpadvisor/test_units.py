import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpadvisor import units
from cpadvisor.errors import UsageError


@pytest.mark.parametrize(("text", "tokens"), [("8192", 8192), ("8k", 8192), ("128K", 131_072), ("1m", 1_048_576)])
def test_lengths_are_read_as_people_type_them(text, tokens):
    assert units.parse_tokens(text) == tokens


@pytest.mark.parametrize("text", ["", "k", "-1", "0", "8.3", "128kk", "ten", "1e5", "8 192", "nan"])
def test_what_is_no_length_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match="131072 or 128k"):
        units.parse_tokens(text)


def test_sizes_are_binary_and_network_rates_decimal_bits():
    assert units.parse_bytes("5g") == 5 * 1024**3
    assert units.parse_bytes("512MiB") == 512 * 1024**2
    assert units.parse_bits_per_s("400g") == 50e9  # a 400 Gbit/s port moves 50 GB/s


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0 B"), (1023, "1023 B"), (512 * 1024**2, "512 MiB"), (49_507_847_372, "46.1 GiB")],
)
def test_bytes_as_people_read_them(value, text):
    assert units.format_bytes(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (310e-6, "310 µs"), (0.0141, "14 ms"), (2.19, "2.19 s"), (200, "3 min 20 s"), (7440, "2 h 04 min")],
)
def test_durations_as_people_read_them(seconds, text):
    assert units.format_seconds(seconds) == text


def test_counts_rates_and_shares():
    assert units.format_parameters(8_030_261_248) == "8.03 B"
    assert units.format_parameters(596_049_920) == "596 M"
    assert units.format_rate(450e9) == "450 GB/s"
    assert units.format_rate(31.5e9) == "31.5 GB/s"
    assert units.format_percent(0.412) == "41 %"
    assert units.format_count(14_900.4) == "14,900"


@given(st.integers(1, 4096).map(lambda thousands: thousands * 1024))
def test_a_length_that_is_shown_reads_back_as_itself(tokens):
    assert units.parse_tokens(units.format_tokens(tokens)) == tokens


@pytest.mark.parametrize(("fraction", "text"), [(None, "–"), (0.021, "+2 %"), (-0.17, "−17 %"), (0.004, "0 %")])
def test_a_change_shows_its_sign_and_a_small_one_none(fraction, text):
    assert units.format_change(fraction) == text


def test_a_place_in_time_reads_as_players_show_it():
    assert [units.format_clock(seconds) for seconds in (0, 12.9, 83, 3723)] == ["0:00", "0:12", "1:23", "1:02:03"]
