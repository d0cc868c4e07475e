"""Figures of a long run, put into a document by the script that found them."""

import re
from datetime import date
from pathlib import Path

import headpursuit as hp


def heading(what: str, seconds: float) -> str:
    """When, with what, and for how long."""
    return f"{date.today()}, headpursuit {hp.__version__}, {what} in {seconds / 60:.0f} minutes"


def put(document: Path, name: str, text: str) -> None:
    """Put a text between the marks of its name in a document."""
    pattern = rf"(?<=<!-- {name} -->\n).*?(?=<!-- end -->)"
    whole, count = re.subn(pattern, lambda _: text, document.read_text(), flags=re.DOTALL)
    assert count == 1, f"{document} has no marks for {name}"
    document.write_text(whole)
