"""What is wrong on this machine, in a config or with a run; each finding with evidence, effect and its mend.

`examine_node`, `examine_config` and `examine_run` each give every check, those that found nothing too; `guided`
orders and filters them by a symptom; `mending.preview` and `mending.apply` turn a mend into a diff and a new file.
"""

from cpadvisor.doctor.config import examine_config
from cpadvisor.doctor.diagnosis import Diagnosis, Mend, diagnoses_json, sort_diagnoses
from cpadvisor.doctor.node import examine_node
from cpadvisor.doctor.run import config_of, examine_run
from cpadvisor.doctor.symptoms import SYMPTOMS, guided

__all__ = [
    "SYMPTOMS",
    "Diagnosis",
    "Mend",
    "config_of",
    "diagnoses_json",
    "examine_config",
    "examine_node",
    "examine_run",
    "guided",
    "sort_diagnoses",
]
