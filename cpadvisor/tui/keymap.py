"""All keys of the app, and whether keys of the user's own can be: id and key exist, and no key is taken twice."""

import unicodedata
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from textual.binding import Binding
from textual.keys import KEY_NAME_REPLACEMENTS, KEY_TO_UNICODE_NAME, Keys

from cpadvisor.settings import nearest
from cpadvisor.tui.keys import APP_KEYS, key_label, keys_of
from cpadvisor.tui.screens.config import ConfigScreen
from cpadvisor.tui.screens.doctor import DoctorScreen
from cpadvisor.tui.screens.journal import Journal
from cpadvisor.tui.screens.node import NodeScreen
from cpadvisor.tui.screens.picker import ChangePreview, Picker
from cpadvisor.tui.screens.plan import PlanScreen
from cpadvisor.tui.screens.reader import Question, Reader
from cpadvisor.tui.screens.run import RunScreen
from cpadvisor.tui.screens.runs import RunsScreen
from cpadvisor.tui.widgets.filter_line import FilterLine
from cpadvisor.tui.widgets.job_form import JobForm
from cpadvisor.tui.widgets.lines import Rows
from cpadvisor.tui.widgets.table import RowTable

STAGES: tuple[type, ...] = (NodeScreen, PlanScreen, ConfigScreen, RunScreen, DoctorScreen, RunsScreen)
PANELS: tuple[type, ...] = (RowTable, Rows)
OVERLAYS: Mapping[type, tuple[type, ...]] = {
    Reader: (),
    Question: (),
    Picker: (RowTable,),
    ChangePreview: (Rows,),
    Journal: (RowTable,),
}
"""Screens that lie over another, and the panels in them; the app's own keys do not act there."""
FIELDS: tuple[type, ...] = (JobForm, FilterLine)
"""Where text is typed: letters go into it, and escape leaves it."""

TAKEN = {
    "tab": "moves the focus on",
    "shift+tab": "moves the focus back",
    "escape": "leads back everywhere",
    "ctrl+c": "copies a selection",
    "ctrl+q": "quits at once",
}
"""Keys of textual's own that the app needs."""

_MODIFIERS = ("ctrl", "shift", "alt", "super", "meta", "hyper")
_NAMED = frozenset(key.value for key in Keys) | {*KEY_NAME_REPLACEMENTS.values(), *KEY_TO_UNICODE_NAME}


def all_bindings() -> dict[str, Binding]:
    """Every key of the app by its id."""
    owners = (*STAGES, *PANELS, *FIELDS, *OVERLAYS)
    bindings = [*APP_KEYS, *(binding for owner in owners for binding in keys_of(owner))]
    return {str(binding.id): binding for binding in bindings}


def mistakes(keys: Mapping[str, str]) -> tuple[str, ...]:
    """What is wrong with keys of the user's own, empty where nothing is."""
    known = all_bindings()
    unknown = [f"no key has the id {name!r}{nearest(name, known)}" for name in keys if name not in known]
    odd = [
        f"{name}: {part!r} names no key; write such as ctrl+l, f5, L or question_mark"
        for name, pressed in keys.items()
        for part in pressed.split(",")
        if not is_key(part)
    ]
    taken = [
        f"{name}: {part} {TAKEN[part]}; choose another key"
        for name, pressed in keys.items()
        for part in pressed.split(",")
        if part in TAKEN and part not in known.get(name, APP_KEYS[0]).key.split(",")
    ]
    return (*unknown, *odd, *taken, *clashes(keys))


def is_key(text: str) -> bool:
    """Whether a terminal has such a key: a character, its name, or a named key, behind modifiers."""
    *modifiers, key = text.split("+") if text not in ("", "+") else ("", text)
    modifiers = [modifier for modifier in modifiers if modifier]
    return all(modifier in _MODIFIERS for modifier in modifiers) and (
        (len(key) == 1 and key.isprintable() and key != " ") or key in _NAMED or _is_character_name(key)
    )


def _is_character_name(text: str) -> bool:
    try:
        unicodedata.lookup(text.replace("_", " "))
    except KeyError:
        return False
    return True


def clashes(keys: Mapping[str, str]) -> list[str]:
    """Keys that two actions would have at one place, beyond those that they have by default."""
    before = {(key, *sorted(ids)) for key, *ids in _doubles({})}
    found = {(key, *sorted(ids)) for key, *ids in _doubles(keys)} - before
    return [
        f"{first} and {second} both take {key_label(key)}; give one of them another key"
        for key, first, second in sorted(found)
    ]


def _doubles(keys: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Key and two ids of each pair that shares a key at one place: screen, app and panel, or overlay and panel."""
    for bindings in _together():
        for first, second in combinations(bindings, 2):
            for key in sorted(_pressed(first, keys) & _pressed(second, keys)):
                yield key, str(first.id), str(second.id)


def _together() -> Iterator[list[Binding]]:
    """The keys that act at one place."""
    for stage in STAGES:
        for panel in PANELS:
            yield [*keys_of(stage), *keys_of(panel), *APP_KEYS]
    for overlay, panels in OVERLAYS.items():
        yield [*keys_of(overlay), *(binding for panel in panels for binding in keys_of(panel))]


def _pressed(binding: Binding, keys: Mapping[str, str]) -> set[str]:
    """The keys of a binding as they are mapped, by their long names."""
    mapped: Any = Binding(keys.get(str(binding.id), binding.key), binding.action)
    return {each.key for each in Binding.make_bindings([mapped])}
