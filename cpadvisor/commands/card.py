"""`card`: the quick reference, the card's value beside ours, each row with its source and its figures."""

import argparse
import os
import shutil

from cpadvisor import settings
from cpadvisor.card import find_rows
from cpadvisor.commands.output import print_json, say
from cpadvisor.errors import EXIT_DONE
from cpadvisor.report.card import card_json, card_text

NARROWEST, WIDEST = 60, 100
"""Columns between which prose is read easily."""


def run(args: argparse.Namespace) -> int:
    """Print the rows that were asked for, or all of them."""
    rows = find_rows(args.rows)
    if args.json:
        print_json(card_json(rows))
        return EXIT_DONE
    chosen, mistakes = settings.resolve({"lang": args.lang})
    say(*mistakes)
    print(card_text(rows, language=chosen.lang, width=_width()))
    return EXIT_DONE


def _width() -> int:
    columns = shutil.get_terminal_size().columns if os.isatty(1) or "COLUMNS" in os.environ else 80
    return min(max(columns, NARROWEST), WIDEST)
