"""The command line: one thin function a command. Nothing here imports torch before a command runs."""

from headpursuit.cli.main import main

__all__ = ["main"]
