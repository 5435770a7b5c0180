"""Makes the helpers beside these tests importable."""

from __future__ import annotations

import sys
from pathlib import Path

# Tests are imported one by one (importlib mode), which leaves the helpers beside them out of the path.
sys.path.insert(0, str(Path(__file__).parent))
