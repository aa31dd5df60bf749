"""The keys that every screen has, and the help page that is made from all keys."""

from typing import Any

from textual.binding import Binding
from textual.dom import DOMNode
from textual.screen import Screen

from cpadvisor.tui.widgets.lines import Line

APP_KEYS = [
    Binding("1", "stage('node')", "Node", id="go-node", tooltip="GPUs, links, holders of memory", show=False),
    Binding("2", "stage('plan')", "Plan", id="go-plan", tooltip="Ranked layouts and why others fail", show=False),
    Binding("3", "stage('config')", "Config", id="go-config", tooltip="The file, its diff and findings", show=False),
    Binding("4", "stage('run')", "Run", id="go-run", tooltip="The live run beside its prediction", show=False),
    Binding("5", "stage('doctor')", "Doctor", id="go-doctor", tooltip="What is wrong, and its mend", show=False),
    Binding("6", "stage('runs')", "Runs", id="go-runs", tooltip="All runs: open, replay, compare, resume", show=False),
    Binding("c", "cpu", "CPU node", id="cpu", tooltip="Switch between this machine's CPU and the node before"),
    Binding("L", "launch", "Launch", id="launch", tooltip="Start the chosen plan and watch it"),
    Binding("X", "stop", "Stop", id="stop", tooltip="Stop the run, after a question"),
    Binding("space", "pause", "Pause", id="pause", tooltip="Hold the picture still; the run goes on", show=False),
    Binding("z", "zoom", "Zoom", id="zoom", tooltip="The focused panel alone; escape brings all back", show=False),
    Binding("t", "next_theme", "Theme", id="theme", tooltip="The next theme", show=False),
    Binding("C", "card", "Card", id="card", tooltip="The quick reference, its values beside ours", show=False),
    Binding("question_mark,f1", "help", "Help", id="help", tooltip="All keys, and the way to a live run"),
    Binding("ctrl+p,colon", "command_palette", "Palette", id="palette", tooltip="Every action by name", show=False),
    Binding("ctrl+z", "suspend_process", "Suspend", id="suspend", tooltip="Back to the shell; fg returns", show=False),
    Binding("q", "leave", "Quit", id="quit", tooltip="Back, or quit; a live run is asked about"),
]

THE_WAY: tuple[Line, ...] = (
    (("From Node to a live run: four keys", "accent"),),
    (("  2 3 w L  ", "plain"), ("look at the plan, look at the file, write it, launch it", "muted")),
    (("  c 2 3 L  ", "plain"), ("without a GPU: the same on two processes of this CPU", "muted")),
    (("  L alone launches the chosen plan from a copy; your own file is written by w only.", "muted"),),
)


def own_keys(node: DOMNode) -> list[Binding]:
    """The keys that a screen or widget declares itself."""
    return [binding for binding in type(node).__dict__.get("BINDINGS", []) if isinstance(binding, Binding)]


def help_lines(screen: Screen[Any], everywhere: str) -> tuple[Line, ...]:
    """The way to a run, then the keys of the screen, of all screens, and of the focused panel."""
    groups = [(type(screen).__name__.removesuffix("Screen"), own_keys(screen)), (everywhere, APP_KEYS)]
    if screen.focused is not None:
        groups.append(("Panel", own_keys(screen.focused)))
    lines: list[Line] = [*THE_WAY]
    for name, bindings in groups:
        lines.extend([(("", "plain"),), ((name, "accent"),)] if bindings else [])
        lines.extend(((f"  {key_label(binding.key):<12}", "plain"), (binding.tooltip, "muted")) for binding in bindings)
    return tuple(lines)


def key_label(key: str) -> str:
    """A binding's keys as they are printed on a keyboard: `?, F1` for question_mark,f1."""
    names = {"question_mark": "?", "colon": ":", "pageup": "PgUp", "pagedown": "PgDn", "f1": "F1", "escape": "esc"}
    return ", ".join(names.get(part, part.replace("ctrl+", "^")) for part in key.split(","))
