"""`plan`, `write` and `check`: the answer, the file it becomes, and what is wrong with a file."""

import argparse
from pathlib import Path

from cpadvisor.commands.machine import read_topology
from cpadvisor.commands.output import print_file, print_json, say
from cpadvisor.errors import EXIT_DONE, EXIT_FAILED, InfeasibleError, UsageError
from cpadvisor.job import Job, Request, build_job, parse_lock
from cpadvisor.plan.advice import Advice
from cpadvisor.plan.layout import AXES, Layout
from cpadvisor.plan.report import advice_json
from cpadvisor.plan.search import advise, explain


def request_of(args: argparse.Namespace) -> Request:
    """The flags that `plan` and `write` share, as a request."""
    return Request(
        node=args.node,
        topo_text=read_topology(args.topo),
        gpu=args.gpu,
        model=args.model,
        sequence_len=args.seq,
        engine=args.engine,
        method=args.method,
        cp_method=args.cp_method,
        nodes=args.nodes,
        nic=args.nic,
        gpus=args.gpus,
        global_batch=args.global_batch,
        objective=args.objective,
        lock=args.lock,
        headroom=args.headroom,
    )


def plan(args: argparse.Namespace) -> int:
    """Print ranked plans, the trace, rejections and the card's answer."""
    if args.top < 1:
        raise UsageError(f"--top {args.top} shows nothing; use 1 or more")
    job = build_job(request_of(args))
    say(*job.notes)
    if args.why is not None:
        return _explain(job, args)
    advice = advise(job.node, job.gpu, job.workload)
    say(*unlocked_note(job, advice))
    if args.json:
        data = advice_json(advice)
        print_json({**data, "plans": data["plans"][: args.top]})
    else:
        from cpadvisor.report.plan import advice_text

        print(advice_text(advice, top=args.top))
    return EXIT_DONE if advice.plans else EXIT_FAILED


def unlocked_note(job: Job, advice: Advice) -> list[str]:
    """What would have been chosen without the lock, where there is one."""
    if not job.workload.lock or not advice.plans:
        return []
    locked = ", ".join(f"{axis}={size}" for axis, size in job.workload.lock.items())
    if advice.unlocked is None:
        return [f"locked: {locked}; without the lock no layout fits"]
    choice = advice.unlocked.layout
    same = "the same" if choice == advice.plans[0].layout else choice.words
    return [f"locked: {locked}; without the lock the first choice is {same}"]


def _explain(job: Job, args: argparse.Namespace) -> int:
    asked = parse_lock(args.why)
    sizes = dict.fromkeys(AXES, 1) | asked
    if "dp_shard" not in asked:
        others = sizes["dp_replicate"] * sizes["tp"] * sizes["cp"]
        sizes["dp_shard"] = max(job.world // others, 1)
    layout = Layout(**sizes)
    answer = explain(job.node, job.gpu, job.workload, layout)
    from cpadvisor.plan.advice import Plan
    from cpadvisor.plan.report import plan_json, rejection_json
    from cpadvisor.report.plan import plan_text, rejection_line

    fits = isinstance(answer, Plan)
    if args.json:
        print_json(
            {
                "schema": 1,
                "plan": plan_json(answer) if fits else None,
                "rejected": None if fits else rejection_json(answer),
            }
        )
    else:
        print(plan_text(answer) if fits else rejection_line(answer).strip())
    return EXIT_DONE if fits else EXIT_FAILED


def write(args: argparse.Namespace) -> int:
    """Write the config of the first plan, show the diff, keep the old file as FILE.bak."""
    from cpadvisor import rundir
    from cpadvisor.plan.report import plan_json
    from cpadvisor.write import diff

    _require_output(args)
    job = build_job(request_of(args))
    if args.launcher == "slurm" and job.gpu.is_cpu:
        raise UsageError("--launcher slurm asks for GPUs and the node cpu has none; leave --launcher out")
    say(*job.notes, *_file_notes(args))
    advice = advise(job.node, job.gpu, job.workload)
    say(*unlocked_note(job, advice))
    require_plan(advice)
    text = config_text(job, advice, args)
    if args.output == "-":
        print_file(text)
        return EXIT_DONE
    target = Path(args.output)
    old = rundir.read_existing(target)
    changed = old != text
    backup = rundir.replace_with_backup(target, text) if changed else None
    if not args.json:
        say(diff.unified_diff(old or "", text, name=str(target)) if changed else f"{target} is as planned already")
        if backup is not None:
            say(f"the old file is kept as {backup}")
        print(target)
        return EXIT_DONE
    plan_data = plan_json(advice.plans[0])
    print_json(
        {
            "schema": 1,
            "path": str(target),
            "plan": plan_data,
            "changed": changed,
            "backup": None if backup is None else str(backup),
        }
    )
    return EXIT_DONE


def _require_output(args: argparse.Namespace) -> None:
    """Refuse flags of `write` that contradict each other or ask for nothing."""
    if args.steps is not None and args.steps < 1:
        raise UsageError(f"--steps {args.steps} trains nothing; use 1 or more")
    if args.output == "-" and args.json:
        raise UsageError("-o - and --json both claim stdout; name a file with -o, or leave --json out")
    if args.launcher == "slurm" and Path(args.output).suffix == ".yaml":
        script = Path(args.output).with_suffix(".sh")
        raise UsageError(f"{args.output} is where the job script expects its config; write the script to {script}")


def _file_notes(args: argparse.Namespace) -> list[str]:
    """Files that the written one needs and that are not written with it."""
    notes: list[str] = []
    if args.data is not None and not Path(args.data).expanduser().is_file():
        notes.append(f"there is no file {Path(args.data).expanduser().absolute()} yet; training reads it")
    if args.launcher == "slurm":
        notes.append(f"the job script trains {_script_config(args)} beside it: write that with -o, without --launcher")
    return notes


def _script_config(args: argparse.Namespace) -> str:
    """The config that a job script trains: it has the script's name."""
    from cpadvisor.write.command import DEFAULT_CONFIG

    return DEFAULT_CONFIG if args.output == "-" else Path(args.output).with_suffix(".yaml").name


def require_plan(advice: Advice) -> None:
    """Refuse to go on without a plan, naming the nearest change that gives one."""
    if advice.plans:
        return
    fixes = [rejection.fix for rejection in advice.rejected if rejection.fix]
    hint = f"; nearest mend: {fixes[0]}" if fixes else ""
    raise InfeasibleError(
        f"no layout of {advice.gpus} GPUs of {advice.node} trains {advice.model} "
        f"at {advice.sequence_len} tokens with {advice.engine}{hint}"
    )


def config_text(job: Job, advice: Advice, args: argparse.Namespace) -> str:
    """The file of the first plan: a config, or the job script for Slurm."""
    from cpadvisor.write.config import WriteOptions, config_document

    options = WriteOptions(
        data=None if args.data is None else str(Path(args.data).expanduser().absolute()),
        steps=args.steps,
        path=None if args.output == "-" else str(Path(args.output).absolute()),
        bf16=job.gpu.precision == "bf16",
    )
    if args.launcher == "slurm":
        from cpadvisor.write.slurm import job_script

        return job_script(job.workload, advice.plans[0], config=_script_config(args))
    return config_document(advice, advice.plans[0], job.workload, options)


def check(args: argparse.Namespace) -> int:
    """Print findings on a config; errors, and with --strict warnings, give exit status 1."""
    from cpadvisor.check import check_file, findings_json

    findings = check_file(Path(args.file), engine=args.engine, gpus=args.gpus)
    failing = ("error", "warning") if args.strict else ("error",)
    if args.json:
        print_json(findings_json(findings))
    else:
        for finding in findings:
            fix = f"; {finding.fix}" if finding.fix else ""
            print(f"{finding.severity} {finding.rule}: {finding.message}{fix}")
        if not findings:
            print(f"{args.file}: nothing to mend")
    return EXIT_FAILED if any(finding.severity in failing for finding in findings) else EXIT_DONE
