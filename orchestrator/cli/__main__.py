"""``python -m orchestrator.cli``: the same command line where the script is not on PATH."""

from orchestrator.cli import main

main()
