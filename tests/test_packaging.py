"""What is imported is declared, what is declared is imported, and an extra installs what its error promises."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DISTRIBUTIONS = packages_distributions()
# Declared, and imported by no line of ours.
USED_BY_OTHERS = {"lm-eval": "runs exported checkpoints, docs/export.md"}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(lines: list[str]) -> Iterator[str]:
    for line in lines:
        name, extras = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?", line).groups()
        if name == "headpursuit":
            for extra in extras.split(","):
                yield from requirements(EXTRAS[extra])
        else:
            yield plain(name)


def installed_by(module: str) -> set[str]:
    top = module.partition(".")[0]
    return {plain(name) for name in DISTRIBUTIONS.get(top, [top])}


def keyword(call: ast.Call, name: str) -> str | None:
    values = [one.value for one in call.keywords if one.arg == name]
    return values[0].value if values and isinstance(values[0], ast.Constant) else None


def imports() -> Iterator[tuple[str, str, str | None]]:
    """Where something is imported, its module or package, and the extra that is said to install it."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import):
                yield from ((where, alias.name, None) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield where, node.module, None
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "optional_import":
                first = node.args[0]
                module = first.value if isinstance(first, ast.Constant) else keyword(node, "package")
                yield where, module, keyword(node, "extra")


IMPORTS = [
    (where, module, extra)
    for where, module, extra in imports()
    if module.partition(".")[0] not in {*sys.stdlib_module_names, "headpursuit"}
]
USERS = [extra for extra in EXTRAS if extra not in ("dev", "docs")]


def test_what_is_imported_is_declared():
    declared = {*requirements(PROJECT["dependencies"])}.union(*(requirements(EXTRAS[extra]) for extra in USERS))
    assert len(IMPORTS) > 100
    assert [(where, module) for where, module, _ in IMPORTS if not installed_by(module) & declared] == []


def test_what_is_declared_is_imported():
    imported = set().union(*(installed_by(module) for _, module, _ in IMPORTS))
    declared = {*requirements(PROJECT["dependencies"])}.union(*(requirements(EXTRAS[extra]) for extra in USERS))
    assert declared - imported == set(USED_BY_OTHERS)


def test_an_extra_installs_what_its_error_promises():
    promised = [(where, module, extra) for where, module, extra in IMPORTS if extra]
    assert len(promised) > 8
    assert [one for one in promised if not installed_by(one[1]) & {*requirements(EXTRAS[one[2]])}] == []


def test_all_is_every_extra_but_the_developers():
    assert {*requirements(EXTRAS["all"])} == set().union(*(requirements(EXTRAS[extra]) for extra in USERS))


def test_the_citation_is_of_this_version_and_names_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert (citation["title"], citation["version"]) == (PROJECT["name"], PROJECT["version"])
    assert citation["license"] == PROJECT["license"]
    assert "2510.21518" in citation["preferred-citation"]["url"]
