"""Tests of the app share hand-made objects; with importlib's import mode their folder has to be named."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
