"""``python -m headpursuit.cli``."""

from headpursuit.cli.main import main

main()
