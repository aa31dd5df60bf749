from cpadvisor.tui.widgets.strip import ending

LINE = (("dgx-h100", "plain"), (" · ", "faint"), ("tiny", "plain"), (" · ", "faint"), ("● running 12/50", "ok"))


def text(width: int) -> str:
    return "".join(part for part, _ in ending(LINE, width))


def test_a_context_that_fits_is_shown_whole() -> None:
    assert text(33) == "dgx-h100 · tiny · ● running 12/50"


def test_of_a_longer_one_the_end_is_kept() -> None:
    assert text(32) == "… · tiny · ● running 12/50"
    assert text(20) == "… · ● running 12/50"


def test_the_state_of_the_run_is_never_dropped() -> None:
    assert text(5) == "…● running 12/50"
