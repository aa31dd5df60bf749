"""Proof that context parallelism is on and right: a few steps at cp 1 and at cp n from one seed, side by side.

The card's smoke test (row C6) and its question D5 in one: a run that ends is not yet a run that is right.
"""

from cpadvisor.parity.pair import Pair, make_pair
from cpadvisor.parity.room import Room, room_here
from cpadvisor.parity.running import run_pair
from cpadvisor.parity.verdict import Check, StepPair, Verdict, judge

__all__ = ["Check", "Pair", "Room", "StepPair", "Verdict", "judge", "make_pair", "room_here", "run_pair"]
