"""All rules over one config: from parsed values, or from a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpadvisor import catalog
from cpadvisor.check.bundled import bundled_rules
from cpadvisor.check.context import context_rules
from cpadvisor.check.finding import Finding, sort_findings
from cpadvisor.check.keys import key_rules
from cpadvisor.check.lengths import length_rules
from cpadvisor.check.paths import path_rules
from cpadvisor.check.settings import setting_rules
from cpadvisor.check.sizes import size_rules
from cpadvisor.check.subject import Config
from cpadvisor.errors import ConfigError, ModelError, UsageError
from cpadvisor.model import ModelSpec
from cpadvisor.plan.workload import ENGINES
from cpadvisor.yaml_reader import DuplicateKeyError, read_yaml

RULES = (key_rules, size_rules, length_rules, context_rules, bundled_rules, setting_rules, path_rules)
DEFAULT_AXOLOTL = "axolotl-0.21"


def check_config(
    values: Mapping[str, Any],
    *,
    lines: Mapping[str, int],
    engine: str,
    gpus: int | None,
    model: ModelSpec | None,
    folder: Path,
) -> tuple[Finding, ...]:
    """What would not start or is known to be wrong, worst first."""
    return _apply_rules(Config(values=values, lines=lines, engine=engine, gpus=gpus, model=model, folder=folder))


def check_file(path: Path, *, engine: str | None = None, gpus: int | None = None) -> tuple[Finding, ...]:
    """Findings on a file. Text that is no YAML is a finding, too; a file that cannot be read is a ConfigError.

    Without an engine a file with a `cpadvisor` block is the bundled trainer's, any other axolotl 0.21's.
    """
    return examine_file(path, engine=engine, gpus=gpus)[1]


def examine_file(
    path: Path, *, engine: str | None = None, gpus: int | None = None, text: str | None = None
) -> tuple[Config | None, tuple[Finding, ...]]:
    """As `check_file`, with the config as the rules see it; None where it is no YAML. `text` is read for the file's."""
    if engine is not None and engine not in ENGINES:
        raise UsageError(f"engine {engine!r} is not known; use one of {', '.join(ENGINES)}")
    if gpus is not None and gpus < 1:
        raise UsageError(f"{gpus} GPUs are asked for; use 1 or more")
    text = _read(path) if text is None else text
    try:
        values, lines = read_yaml(text, name=str(path))
    except ConfigError as error:
        rule = "C3" if isinstance(error, DuplicateKeyError) else "yaml"
        return None, (Finding(rule=rule, severity="error", key=None, message=str(error)),)
    model, findings = _model_of(values, lines, path.parent)
    chosen = engine or ("cpadvisor" if "cpadvisor" in values else DEFAULT_AXOLOTL)
    config = Config(values=values, lines=lines, engine=chosen, gpus=gpus, model=model, folder=path.resolve().parent)
    return config, sort_findings((*_apply_rules(config), *findings))


def _apply_rules(config: Config) -> tuple[Finding, ...]:
    return sort_findings(finding for rules in RULES for finding in rules(config))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not text in UTF-8 (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; name a config that you may read") from error


def _model_of(
    values: Mapping[str, Any], lines: Mapping[str, int], folder: Path
) -> tuple[ModelSpec | None, tuple[Finding, ...]]:
    """The model of the file where it can be known here; a broken config.json is a finding."""
    block = values.get("cpadvisor")
    named = [block.get("model")] if isinstance(block, Mapping) else []
    for name in (*named, values.get("base_model")):
        if not isinstance(name, str):
            continue
        local = folder / Path(name).expanduser()
        try:
            return catalog.find_model(str(local) if local.exists() else name), ()
        except ModelError as error:
            if local.exists():
                line = lines.get("base_model")
                place = f"line {line}: " if line else ""
                return None, (Finding(rule="model", severity="error", key="base_model", message=f"{place}{error}"),)
    return None, ()
