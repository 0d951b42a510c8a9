"""The benchmark's own judgement is tested here; that it runs at all, by running it."""

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
# Behind this folder's own packages: the benchmark has a `harness`, too.
sys.path.append(str(REPOSITORY / "bench"))
