"""What several folders of tests share lies in tests/support, which importlib's import mode has to be told."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "support"))
