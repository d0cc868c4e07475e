"""Running a command in the tests' own process."""

from __future__ import annotations

import sys

from headpursuit.cli import main


def call(*words: object) -> int:
    """Run ``headpursuit`` with these words; its exit code."""
    before, sys.argv = sys.argv, ["headpursuit", *map(str, words)]
    try:
        main()
    except SystemExit as stop:
        return stop.code or 0
    finally:
        sys.argv = before
    return 0
