"""Quantities as text: the one place that parses and formats bytes, rates, tokens and durations.

Bytes are int, times float seconds, rates per second. Parsing takes what people
type (`128k`, `5g`, `400g`); formatting gives what people read (`46.1 GiB`).
The unknown is None and shows as a dash.
"""

import re

from cpadvisor.errors import UsageError

DASH = "–"

KIB = 1024
MIB = 1024**2
GIB = 1024**3

_SUFFIX_EXPONENTS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_QUANTITY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)


def _parse_scaled(text: str, *, base: int, what: str, example: str) -> float:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{what} {text!r} is not a number with an optional k, m, g or t; write for example {example}")
    number, suffix = match.groups()
    return float(number) * base ** _SUFFIX_EXPONENTS[suffix.lower()]


def parse_tokens(text: str) -> int:
    """Tokens from `8192`, `8k` or `1m`; k is 1,024 because lengths are powers of two. `128k` is 131,072."""
    tokens = _parse_scaled(text, base=1024, what="length", example="131072 or 128k")
    if tokens != int(tokens) or tokens < 1:
        raise UsageError(f"length {text!r} is not a whole number of tokens from 1 up; write for example 131072 or 128k")
    return int(tokens)


def parse_bytes(text: str) -> int:
    """Bytes from `5g` (5 GiB), `512m` or a plain count."""
    return int(_parse_scaled(text, base=1024, what="size", example="5g"))


def parse_bits_per_s(text: str) -> float:
    """A network rate in bytes per second from bits as vendors write them: `400g` is 400e9 / 8 = 50e9."""
    bits = _parse_scaled(text, base=1000, what="network rate", example="400g")
    if not bits:
        raise UsageError(f"network rate {text!r} carries nothing; write for example 400g")
    return bits / 8


def format_bytes(value: float | None) -> str:
    """`46.1 GiB`, `512 MiB`, `17 B`; 49,507,847,372 is 46.1 GiB."""
    if value is None:
        return DASH
    for unit, size in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if abs(value) >= size:
            scaled = value / size
            return f"{scaled:.1f} {unit}" if abs(scaled) < 100 else f"{scaled:,.0f} {unit}"
    return f"{value:.0f} B"


def format_rate(bytes_per_s: float | None) -> str:
    """Decimal, as links are sold: `450 GB/s`, `31.5 GB/s`, `0.8 GB/s`."""
    if bytes_per_s is None:
        return DASH
    gigabytes = bytes_per_s / 1e9
    return f"{gigabytes:.0f} GB/s" if gigabytes >= 100 else f"{gigabytes:.1f} GB/s"


def format_tokens(tokens: int | None) -> str:
    """`128K` for whole multiples of 1,024, else the digits: `10,002`; `1M` for 1,048,576."""
    if tokens is None:
        return DASH
    if tokens % (1024 * 1024) == 0 and tokens:
        return f"{tokens // (1024 * 1024)}M"
    if tokens % 1024 == 0 and tokens:
        return f"{tokens // 1024}K"
    return f"{tokens:,}"


def format_seconds(seconds: float | None) -> str:
    """`2 h 04 min`, `3 min 20 s`, `2.19 s`, `14 ms`, `310 µs`."""
    if seconds is None:
        return DASH
    if seconds >= 3600:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"
    if seconds >= 60:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    if seconds >= 1:
        return f"{seconds:.2f} s"
    if seconds >= 1e-3:
        return f"{seconds * 1e3:.0f} ms"
    return f"{seconds * 1e6:.0f} µs"


def format_count(value: float | None) -> str:
    """Thousands grouped, no decimals: `14,900`; the unknown is a dash."""
    return DASH if value is None else f"{value:,.0f}"


def format_parameters(count: int) -> str:
    """`8.03 B`, `596 M`, `494 K`; Llama-3.1-8B's 8,030,261,248 is 8.03 B."""
    for unit, size in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if count >= size:
            scaled = count / size
            decimals = 2 if scaled < 10 else 1 if scaled < 100 else 0
            return f"{scaled:.{decimals}f} {unit}"
    return str(count)


def format_percent(fraction: float | None) -> str:
    """A fraction of one as `41 %`."""
    return DASH if fraction is None else f"{fraction * 100:.0f} %"


def format_clock(seconds: float) -> str:
    """A place in time as players show it: `0:12`, `1:23`, `1:02:03`; parts of a second are cut off."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def format_change(fraction: float | None) -> str:
    """A difference as a share of one with its sign: `+2 %`, `−17 %`, `0 %`; below half a percent it is `0 %`."""
    if fraction is None:
        return DASH
    percent = round(fraction * 100)
    return f"{'+' if percent > 0 else '−' if percent < 0 else ''}{abs(percent)} %"
