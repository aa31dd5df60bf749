"""The hand-made objects of the app's tests lie one folder up; with importlib's import mode it has to be named."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
