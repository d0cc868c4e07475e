"""Docstrings as mkdocstrings reads them: doctests without a heading get one, and roles of Sphinx become plain code."""

from __future__ import annotations

import re
from textwrap import indent
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|data|func|meth|attr|mod):`~?(?:headpursuit\.)?([^`]+)`")


class Docstrings(griffe.Extension):
    """Changes the text of each docstring before it is taken apart."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by griffe for every object that it reads."""
        if obj.docstring is not None:
            obj.docstring.value = readable(obj.docstring.value)


def readable(text: str) -> str:
    """A docstring whose examples stand under a heading, and whose names stand in code."""
    before, prompt, examples = ROLE.sub(r"`\1`", text).partition("\n>>>")
    return before + (f"\nExamples:\n{indent(prompt[1:] + examples, '    ')}" if prompt else "")
