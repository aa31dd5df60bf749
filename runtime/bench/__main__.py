"""`python -m runtime.bench attention`: measures context-parallel attention on the GPUs of this machine.

Alone it starts one process a GPU; under torchrun it is one of the given ranks.
Exit status: 0 done, 1 failed, 2 a request that cannot be measured,
130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from runtime.bench import attention, launch, request, variants
from runtime.bench.results import ENOUGH_REPEATS
from runtime.errors import TrainerError

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for; the exit status."""
    args = _parser().parse_args(arguments)
    try:
        launch.run(attention.measure, _request(args))
    except TrainerError as error:
        if os.environ.get("LOCAL_RANK", "0") == "0" or not error.alike:
            print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m runtime.bench", description="Measures the trainer's parts.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("attention", help="the trainer's attention beside its ideal and torch's own")
    command.add_argument("--sizes", help="tokens of the whole sequence, for example 8k,16k")
    command.add_argument("--heads", help="query heads:key/value heads, for example 32:8,32:32")
    command.add_argument("--methods", help="of the trainer; all by default")
    command.add_argument("--kernels", help="of the trainer; all that run here by default")
    command.add_argument("--passes", help="of fwd,bwd,both; all by default")
    command.add_argument("--repeats", type=int, default=ENOUGH_REPEATS, help="timed calls; fewer of very long ones")
    command.add_argument("--all", action="store_true", help="leave no slower variant out of rows above 16k")
    command.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, after every row")
    return parser


def _request(args: argparse.Namespace) -> request.Request:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    offer = request.Offer(
        ranks=launch.rank_count(), device=device, methods=variants.METHODS, kernels=variants.kernel_names(device)
    )
    return request.read(
        offer,
        sizes=args.sizes,
        heads=args.heads,
        methods=args.methods,
        kernels=args.kernels,
        passes=args.passes,
        repeats=args.repeats,
        measures_all=args.all,
        json_path=args.json,
    )


if __name__ == "__main__":
    sys.exit(main())
