"""What would not start or is known to be wrong in a config: rule, evidence, the change that mends it."""

from cpadvisor.check.config import check_config, check_file
from cpadvisor.check.finding import Finding, findings_json

__all__ = ["Finding", "check_config", "check_file", "findings_json"]
