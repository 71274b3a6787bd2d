"""``python -m orchestrator.worker worker GATEWAY | scheduler``: what the embedded stack starts as its children."""

from __future__ import annotations

import sys

from orchestrator.worker.main import run_scheduler, run_worker
from orchestrator.worker.settings import Settings


def main(argv: list[str]) -> None:
    """Run the named process until it is told to stop."""
    if argv == ["scheduler"]:
        run_scheduler(Settings())
    elif len(argv) == 2 and argv[0] == "worker":
        run_worker(Settings(), argv[1])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
