"""`inspect`: the machine."""

import argparse
import sys
from pathlib import Path

from cpadvisor.commands.output import print_json, say
from cpadvisor.errors import EXIT_DONE, UsageError
from cpadvisor.probe.machine import find_node
from cpadvisor.probe.recorded import node_json


def inspect(args: argparse.Namespace) -> int:
    """Print the GPUs, links, islands and ring of this, a recorded or a pasted machine."""
    node, note = find_node(node=args.node, topo_text=read_topology(args.topo), gpu=args.gpu)
    if note is not None:
        say(note)
    if args.json:
        print_json(node_json(node))
        return EXIT_DONE
    from cpadvisor.report.node import node_text

    print(node_text(node))
    return EXIT_DONE


def read_topology(source: str | None) -> str | None:
    """The text of a file, of stdin for `-`, or None where no source is given."""
    if source is None:
        return None
    if source == "-":
        return sys.stdin.read()
    try:
        return Path(source).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"topology {source}: {reason}; give a file with the output of `nvidia-smi topo -m`") from error
