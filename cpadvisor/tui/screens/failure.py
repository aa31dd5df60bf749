"""Why a run ended or hangs, in one panel: what went wrong first, what mends it, what to type, what proves it."""

from cpadvisor.tui.i18n import Words
from cpadvisor.tui.widgets.facts import Fact
from cpadvisor.watch.failure import Failure


def failure_facts(failure: Failure, words: Words, *, evidence: bool = True) -> tuple[Fact, ...]:
    """The cause as entries, the mend where a small panel still shows it; without `evidence` no lines that prove it."""
    facts = [Fact(name=words["cause"], lines=(((failure.headline, "bad"),),))]
    if failure.mend:
        facts.append(Fact(name=words["mend"], lines=(((failure.mend, "ok"),),)))
    if failure.command:
        facts.append(Fact(name=words["command"].lower(), lines=((("$ ", "faint"), (failure.command, "plain")),)))
    if evidence and failure.evidence:
        lines = tuple(((line, "muted"),) for line in failure.evidence)
        facts.append(Fact(name=words["evidence"], lines=lines))
    return tuple(facts)
