"""The keys that every screen has, which of all keys change something, and the help page that is made from them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from textual.binding import Binding
from textual.dom import DOMNode
from textual.screen import Screen

from cpadvisor.tui.i18n import Words
from cpadvisor.tui.key_words import CHINESE
from cpadvisor.tui.widgets.lines import Line

APP_KEYS = [
    Binding("1", "stage('node')", "Node", id="go-node", tooltip="GPUs, links, holders of memory", show=False),
    Binding("2", "stage('plan')", "Plan", id="go-plan", tooltip="Ranked layouts and why others fail", show=False),
    Binding("3", "stage('config')", "Config", id="go-config", tooltip="The file, its diff and findings", show=False),
    Binding("4", "stage('run')", "Run", id="go-run", tooltip="The live run beside its prediction", show=False),
    Binding("5", "stage('doctor')", "Doctor", id="go-doctor", tooltip="What is wrong, and its mend", show=False),
    Binding("6", "stage('runs')", "Runs", id="go-runs", tooltip="All runs: open, replay, compare, resume", show=False),
    Binding("L", "launch", "Launch", id="launch", tooltip="Start the chosen plan and watch it"),
    Binding("X", "stop", "Stop", id="stop", tooltip="Stop the run, after a question"),
    Binding("z", "zoom", "Zoom", id="zoom", tooltip="The focused panel alone; escape brings all back", show=False),
    Binding("t", "next_theme", "Theme", id="theme", tooltip="The next theme", show=False),
    Binding("C", "card", "Card", id="card", tooltip="The quick reference, its values beside ours", show=False),
    Binding("at", "commands", "Log", id="commands", tooltip="What the app did, as headless commands", show=False),
    Binding("question_mark,f1", "help", "Help", id="help", tooltip="All keys, and the way to a live run"),
    Binding("ctrl+p,colon", "command_palette", "Palette", id="palette", tooltip="Every action by name", show=False),
    Binding("ctrl+z", "suspend_process", "Suspend", id="suspend", tooltip="Back to the shell; fg returns", show=False),
    Binding("q", "leave", "Quit", id="quit", tooltip="Back, or quit; a live run is asked about"),
]

CPU_KEY = Binding("c", "app.cpu", "CPU node", id="cpu", tooltip="Switch between this machine's CPU and the node before")
"""On the screens that lead to a run."""
PAUSE_KEY = Binding(
    "space", "app.pause", "Pause", id="pause", tooltip="Hold the picture still; the run goes on", show=False
)

COPY_KEY = Binding("y", "copy", "Copy", id="copy", tooltip="Copy what is focused to the clipboard (OSC 52)", show=False)
"""On every screen that has something to copy."""

CHANGING = frozenset({"write", "launch", "stop", "delete", "resume", "edit_file"})
"""Actions that change something outside the app; in a read-only app they are dimmed and do nothing."""


def own_keys(node: DOMNode) -> list[Binding]:
    """The keys that a screen or widget declares itself."""
    return keys_of(type(node))


def keys_of(owner: type) -> list[Binding]:
    """The keys that a class of the app declares itself or has from another such class."""
    ours = [each for each in owner.__mro__ if each.__module__.startswith("cpadvisor.")]
    declared = [binding for each in ours for binding in each.__dict__.get("BINDINGS", [])]
    return [binding for binding in declared if isinstance(binding, Binding)]


def action_name(binding: Binding) -> str:
    """`write` for `app.write`, `stage` for `stage('node')`."""
    return binding.action.split("(")[0].rpartition(".")[2]


def in_language(binding: Binding, words: Words) -> Binding:
    """The same key with its words in the language of the app."""
    chinese = CHINESE.get(binding.id or "") if words.language == "zh" else None
    return binding if chinese is None else replace(binding, description=chinese[0], tooltip=chinese[1])


def help_lines(screen: Screen[Any], words: Words, *, keymap: Mapping[str, str], read_only: bool) -> tuple[Line, ...]:
    """The way to a run, then the keys of the screen, of all screens, and of the focused panel."""
    groups = [
        (words[getattr(screen, "MODE", "") or "help"], own_keys(screen)),
        (words["everywhere"], APP_KEYS),
        (words["panel"], own_keys(screen.focused) if screen.focused is not None else []),
    ]
    lines: list[Line] = [*the_way(words, keymap)]
    if read_only:
        lines.append((("▲ ", "warn"), (words["read-only help"], "warn")))
    for name, bindings in groups:
        lines.extend([(("", "plain"),), ((name, "accent"),)] if bindings else [])
        for binding in bindings:
            lines.append(_help_line(in_language(binding, words), keymap, read_only=read_only))
    lines.extend([(("", "plain"),), ((words["own keys"], "muted"),)])
    return tuple(lines)


def _help_line(binding: Binding, keymap: Mapping[str, str], *, read_only: bool) -> Line:
    still = read_only and action_name(binding) in CHANGING
    key = key_label(keymap.get(binding.id or "", binding.key))
    shown = f"({key})" if still else key
    return ((f"  {shown:<12}", "faint" if still else "plain"), (binding.tooltip, "faint" if still else "muted"))


def the_way(words: Words, keymap: Mapping[str, str]) -> tuple[Line, ...]:
    """How few keys lead from the node to a live run, as they are mapped."""

    def keys(*ids: str) -> str:
        default = {binding.id: binding.key for binding in (*APP_KEYS, CPU_KEY)} | {"config-write": "w"}
        return " ".join(key_label(keymap.get(name, default[name])) for name in ids)

    ways = (("the way", "go-plan", "go-config", "config-write", "launch"),)
    without = (("the way on cpu", "cpu", "go-plan", "go-config", "launch"),)
    rows = [((f"  {keys(*ids):<9}", "plain"), (words[text], "muted")) for text, *ids in (*ways, *without)]
    copied = (f"  {keys('launch')} {words['launch copies']}", "muted")
    return (((words["four keys"], "accent"),), *rows, (copied,))


_PRINTED = {
    "question_mark": "?",
    "at": "@",
    "colon": ":",
    "slash": "/",
    "plus": "+",
    "minus": "-",
    "equals_sign": "=",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "escape": "esc",
}


def key_label(key: str) -> str:
    """A binding's keys as they are printed on a keyboard: `?, F1` for question_mark,f1."""
    return ", ".join(_printed(part.strip()) for part in key.split(","))


def _printed(key: str) -> str:
    if key.startswith("f") and key[1:].isdigit():
        return key.upper()
    return _PRINTED.get(key, key.replace("ctrl+", "^"))
