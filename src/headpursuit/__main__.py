"""The command line, for ``python -m headpursuit``."""

from headpursuit.cli.main import main

main()
