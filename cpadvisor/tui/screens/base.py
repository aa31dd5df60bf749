"""What every stage screen has: the context strip, a body, the footer, and the notice of a small terminal."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import ActiveBinding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.reactive import var
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer, Static

from cpadvisor.settings import Settings
from cpadvisor.tui.copying import copy_from, text_of
from cpadvisor.tui.i18n import Words
from cpadvisor.tui.keys import CHANGING, COPY_KEY, in_language, key_label
from cpadvisor.tui.session import Machine, Session, request_label
from cpadvisor.tui.terminal import SMALLEST
from cpadvisor.tui.widgets.lines import Line
from cpadvisor.tui.widgets.prose import content
from cpadvisor.tui.widgets.strip import ContextStrip, Stage
from cpadvisor.tui.widgets.titled import Titled

if TYPE_CHECKING:
    from cpadvisor.tui.app import CpadvisorApp

STAGES = (("1", "node"), ("2", "plan"), ("3", "config"), ("4", "run"), ("5", "doctor"), ("6", "runs"))
STATES: Mapping[str, tuple[str, str]] = {
    "launching": ("◌", "accent"),
    "initialising": ("◌", "accent"),
    "warming_up": ("◍", "accent"),
    "running": ("●", "ok"),
    "hung": ("▲", "bad"),
    "stopping": ("▲", "warn"),
    "done": ("✔", "ok"),
    "failed": ("✖", "bad"),
    "out_of_memory": ("✖", "bad"),
    "stopped": ("▲", "warn"),
    "lost": ("✖", "bad"),
}
"""The mark and the tone of each state of a run; the mark tells it without colour too."""
NARROW = 110
"""Columns below which panels stand below each other; where the app's breakpoint is."""


class StageScreen(Screen[None]):
    """One stage. Subclasses compose a body and show a session."""

    MODE = ""
    QUIET: ClassVar[frozenset[str]] = frozenset()
    """Ids of the app's keys that work here too and stand in the help, but leave the footer to the screen's own."""

    BINDINGS: ClassVar = [COPY_KEY]

    # A var, not a reactive: the widgets that change draw themselves anew, the rest of the screen stays as it is.
    session: var[Session] = var(Session)

    @property
    def active_bindings(self) -> dict[str, ActiveBinding]:
        """The keys that act now, in the app's language; the footer shows those that it is told to."""
        return {key: self._as_shown(active) for key, active in super().active_bindings.items()}

    def _as_shown(self, active: ActiveBinding) -> ActiveBinding:
        binding = in_language(active.binding, self.words)
        shown = binding.show and binding.id not in self.QUIET
        return active._replace(binding=replace(binding, show=shown), tooltip=binding.tooltip)

    def copied(self) -> str | None:
        """What is copied: by default what the focused panel holds."""
        return text_of(self.focused)

    def action_copy(self) -> None:
        """Give it to the terminal's clipboard."""
        copy_from(self.app, self.copied())

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """None, which dims a key, for what changes something in a read-only app."""
        return None if action in CHANGING and self._settings.read_only else True

    @property
    def _settings(self) -> Settings:
        return cast("CpadvisorApp", self.app).settings

    @property
    def words(self) -> Words:
        """The app's language."""
        return cast("CpadvisorApp", self.app).words

    def compose(self) -> ComposeResult:
        """Strip, body, footer, and the notice that replaces them in a small terminal."""
        keys = {mode: key_label(self._settings.keys.get(f"go-{mode}", key)) for key, mode in STAGES}
        stages = tuple(Stage(key=keys[mode], mode=mode, title=self.words[mode]) for _, mode in STAGES)
        yield ContextStrip(stages, active=self.MODE)
        with VerticalScroll(id="body", can_focus=False):
            yield from self.body()
        yield Footer(show_command_palette=False)
        yield Static(id="small", markup=False)

    def body(self) -> ComposeResult:
        """The widgets of the stage."""
        yield from ()

    def show(self, session: Session) -> None:
        """Hand the parts of the session to the widgets."""

    def on_mount(self) -> None:
        """Draw what is known already."""
        self.session = cast("CpadvisorApp", self.app).session
        self._show()

    def watch_session(self) -> None:
        """Draw the new session."""
        if self.is_mounted:
            self._show()

    def on_resize(self) -> None:
        """Below the smallest size, say so in place of a body that nobody could read."""
        width, height = self.size
        small = width < SMALLEST[0] or height < SMALLEST[1]
        self.set_class(small, "-small")
        notice = f"needs {SMALLEST[0]}x{SMALLEST[1]}, this terminal is {width}x{height}"
        self.query_one("#small", Static).update(notice)

    def _show(self) -> None:
        read_only: Line = ((" · ", "faint"), (self.words["read-only"], "warn")) if self._settings.read_only else ()
        self.query_one(ContextStrip).line = (*context_line(self.session, self.words), *read_only)
        self.show(self.session)


def context_line(session: Session, words: Words) -> Line:
    """`dgx-h100 (recorded) · llama-3.1-8b · 32K · 1×2×1×4 · ● running 12/50`."""
    machine, plan = session.machine, session.plan
    node = machine_label(machine) if machine else words["looking"]
    model, length = request_label(session.request)
    parts: list[Line] = [((node, "plain"),), ((model, "plain"),), ((length, "plain"),)]
    if plan is not None:
        parts.append(((plan.layout.label, "accent"),))
    parts.append(run_state(session, words))
    joined: list[tuple[str, str]] = []
    for part in parts:
        joined.extend([(" · ", "faint"), *part] if joined else part)
    return tuple(joined)


def machine_label(machine: Machine) -> str:
    """The node's name, and for one that is not this machine where it comes from."""
    return machine.node.name if machine.is_here else f"{machine.node.name} ({machine.node.source})"


def run_state(session: Session, words: Words) -> Line:
    """The state of the run with a mark, so that it is told without colour too; its model, where that is another."""
    if session.busy in ("launch", "stop"):
        return ((f"◌ {words.state('launching' if session.busy == 'launch' else 'stopping')}", "warn"),)
    if session.live is None:
        return ((f"○ {words['idle']}", "muted"),)
    view = session.live.view
    steps = f" {view.step}/{view.steps}" if view.step and view.steps else ""
    mark, tone = state_mark(view.state)
    state = (f"{mark} {words.state(view.state)}{steps}", tone)
    is_other = view.model is not None and view.model != session.request.model
    return (state, (f" {view.model}", "muted")) if is_other else (state,)


def state_mark(state: str) -> tuple[str, str]:
    """The mark of a state and its tone."""
    return STATES.get(state, ("○", "warn"))


def panel(widget: Widget, title: str | Line, subtitle: str | Line = "") -> None:
    """Title at the left of the upper border, live figures at the right of the lower one; never read as markup."""
    shown = [Content(text) if isinstance(text, str) else content((text,)) for text in (title, subtitle)]
    if isinstance(widget, Titled):
        widget.entitle(*shown)
    else:
        widget.border_title, widget.border_subtitle = shown
