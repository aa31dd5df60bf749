"""From a symptom to the checks that explain it, in the order in which to look."""

from collections.abc import Iterable

from cpadvisor.doctor.diagnosis import Diagnosis

SYMPTOMS = ("oom", "slow", "nan", "split", "cp", "hang")


def guided(found: Iterable[Diagnosis], symptom: str) -> tuple[Diagnosis, ...]:
    """The checks of one symptom in the order of its tree, those that found nothing too.

    Raises UsageError naming the nearest for a symptom that is none of SYMPTOMS.
    """
    raise NotImplementedError
