"""The data of a config: the user's file, or the default of the engine."""

from pathlib import PurePath

from cpadvisor.plan.workload import Workload
from cpadvisor.write.lines import ConfigLine
from cpadvisor.write.options import WriteOptions

JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
AXOLOTL_EXAMPLE = {"path": "tatsu-lab/alpaca", "type": "alpaca"}
"""A small public data set that axolotl's own examples use."""


def dataset_lines(workload: Workload, options: WriteOptions) -> list[ConfigLine]:
    """The lines that say what is trained on.

    Without a file the bundled trainer takes the corpus that the `cpadvisor` block names, so there is no line.
    """
    if options.data is not None:
        return [ConfigLine(key="datasets", value=[_file_entry(options.data)], origin="flag"), _no_evaluation()]
    if workload.engine == "cpadvisor":
        return [_no_evaluation()]
    why = "an example to start with; put your own data here"
    return [ConfigLine(key="datasets", value=[AXOLOTL_EXAMPLE], origin="default", comment=why), _no_evaluation()]


def _file_entry(path: str) -> dict[str, str]:
    is_json = PurePath(path).suffix.lower() in JSON_SUFFIXES
    return {"path": path, "ds_type": "json" if is_json else "text", "type": "completion", "field": "text"}


def _no_evaluation() -> ConfigLine:
    return ConfigLine(key="val_set_size", value=0, origin="default", comment="all data is trained on")
