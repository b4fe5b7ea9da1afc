"""Lets tests say `from tests.netns.rooms import ...`, however pytest was started (importlib mode adds no path)."""

import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parent.parent.parent)

if ROOT not in sys.path:
    sys.path.append(ROOT)
