"""The app in tmux, as people use it over ssh: left in one session, attached in another of another size, two at once."""

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from fault_scene import LONGEST_S, Scene, processes_of

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux")


class Tmux:
    """A server of the test's own; sessions are windows of a given size that run a shell."""

    def __init__(self, here: Scene) -> None:
        self._socket = here.folder / "tmux"
        self._here = here

    def run(self, *words: str) -> str:
        """One tmux command; gives what it prints."""
        argv = ["tmux", "-S", str(self._socket), "-f", "/dev/null", *words]
        done = subprocess.run(
            argv, env={**self._here.env, "LC_ALL": "C.UTF-8"}, capture_output=True, text=True, check=True
        )
        return done.stdout

    def open(self, session: str, *words: str, columns: int, rows: int) -> None:
        """A session whose shell runs `cpadvisor WORDS`."""
        size = ("-x", str(columns), "-y", str(rows))
        self.run("new-session", "-d", "-s", session, *size, "-c", str(self._here.folder), "/bin/sh")
        self.press(session, shlex.join([sys.executable, "-m", "cpadvisor", *words]), "Enter")

    def press(self, session: str, *keys: str) -> None:
        self.run("send-keys", "-t", session, *keys)

    def screen(self, session: str) -> list[str]:
        """The lines as a person sees them."""
        return self.run("capture-pane", "-p", "-t", session).splitlines()

    def modes(self, session: str) -> str:
        """Alternate screen, cursor and mouse of the terminal, as tmux knows them."""
        return self.run(
            "display-message", "-p", "-t", session, "#{alternate_on} #{cursor_flag} #{mouse_any_flag}"
        ).strip()

    def shows(self, session: str, word: str) -> None:
        """Wait until a word is on the screen."""
        end = time.monotonic() + LONGEST_S
        while word not in (drawn := "\n".join(self.screen(session))):
            assert time.monotonic() < end, f"{word!r} was not drawn:\n{drawn}"
            time.sleep(0.2)

    def close(self) -> None:
        subprocess.run(["tmux", "-S", str(self._socket), "kill-server"], capture_output=True, check=False)


@pytest.fixture
def tmux(here: Scene) -> Iterator[Tmux]:
    server = Tmux(here)
    yield server
    server.close()


def test_a_run_is_left_in_one_session_and_attached_in_others_of_other_sizes(here: Scene, tmux: Tmux) -> None:
    run_dir = here.launch()
    tmux.open("first", "attach", columns=100, rows=30)
    tmux.shows("first", "running")
    assert tmux.modes("first") == "1 0 1"
    tmux.press("first", "q")
    tmux.shows("first", "A run is alive")
    tmux.press("first", "d")
    tmux.shows("first", f"run {run_dir.name} goes on")
    assert tmux.modes("first") == "0 1 0"
    view = here.trains(run_dir)
    tmux.open("second", "attach", columns=160, rows=45)
    tmux.open("third", "attach", run_dir.name, columns=80, rows=24)
    for session in ("second", "third"):
        tmux.shows(session, "running")
    tmux.run("resize-window", "-t", "third", "-x", "120", "-y", "35")
    tmux.shows("third", run_dir.name)
    here.trains(run_dir, beyond=(view.step or 0) + 1)
    tmux.press("second", "X")
    tmux.shows("second", "Stop")
    tmux.press("second", "X")
    for session in ("second", "third"):
        tmux.shows(session, "stopped on request")
        tmux.press(session, "q")
    assert processes_of(run_dir) == []
    end = time.monotonic() + LONGEST_S
    while any(tmux.modes(session) != "0 1 0" for session in ("second", "third")):
        assert time.monotonic() < end, [tmux.modes(session) for session in ("second", "third")]
        time.sleep(0.2)
