"""What is imported is declared, what is declared is imported, and an extra installs what its error promises."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from headpursuit import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DISTRIBUTIONS = packages_distributions()
# Declared, and imported by no line of ours.
USED_BY_OTHERS = {"lm-eval": "runs exported checkpoints, docs/export.md", "s3fs": "fsspec opens s3:// with it, docs/scale.md"}


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


def test_the_citation_names_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["title"] == PROJECT["name"]
    assert citation["license"] == PROJECT["license"]
    assert "2510.21518" in citation["preferred-citation"]["url"]


def test_the_citation_and_the_change_log_are_of_this_version():
    assert re.search(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == __version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__


def test_the_front_page_tells_of_every_extra():
    rows = re.findall(r"^\| `([a-z]+)` \|", (ROOT / "README.md").read_text().partition("## One command")[0], re.MULTILINE)
    assert set(rows) == set(EXTRAS) - {"dev"}


def run(*words: object, cwd: Path, **more: str) -> str:
    """What a command of another environment prints; nothing of this one's folders is seen by it."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env={**env, **more}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The source archive of this folder, and the wheel that is made of what is in that archive."""
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    run(
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "-t",
        "wheel",
        "-d",
        folder,
        cwd=folder / archive.name.removesuffix(".tar.gz"),
    )
    (wheel,) = folder.glob("*.whl")
    return archive, wheel


def test_the_archives_hold_the_package_alone_and_the_index_gets_whole_links(built):
    archive, wheel = built
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
        text = next(packed.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    ours = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "headpursuit").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if ".dist-info/" not in name} == ours
    fields, _, page = text.partition("\n\n")
    assert f"Version: {__version__}" in fields
    assert "Project-URL: Changelog" in fields
    links = re.findall(r"\]\(([^)\s]+)\)", page)
    assert len(links) > 10
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    with tarfile.open(archive) as packed:
        tops = {name.split("/")[1] for name in packed.getnames() if "/" in name}
    assert {"src", "README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "pyproject.toml"} <= tops
    assert not {"tests", "docs", "benchmarks"} & tops


def test_the_wheel_runs_in_an_environment_of_its_own(built, tmp_path):
    """With the libraries of this one, so that nothing is fetched; the package itself is the wheel's."""
    _, wheel = built
    venv.create(tmp_path / "own", symlinks=True)
    own = tmp_path / "own" / "bin"
    site = Path(run(own / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    (site / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    run(
        sys.executable, "-m", "pip", "--python", own / "python", "install", "-q", "--no-deps", "--no-index", wheel, cwd=tmp_path
    )
    where = run(own / "python", "-c", "import headpursuit; print(headpursuit.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(tmp_path / "own")
    assert run(own / "headpursuit", "--version", cwd=tmp_path) == f"headpursuit {__version__}\n"
    completion = run(
        own / "headpursuit", cwd=tmp_path, _HEADPURSUIT_COMPLETE="complete_bash", COMP_WORDS="headpursuit sup", COMP_CWORD="1"
    )
    assert completion.split() == ["suppress"]
    found = json.loads(run(own / "headpursuit", "doctor", "--json", cwd=tmp_path))
    assert found["versions"]["headpursuit"] == __version__
    assert set(found["extras"]) == set(EXTRAS) - {"all", "dev"}
    words = ["generate", "demo", "--prompt", "Which country has Paris as its capital?", "--head", "L3.H11"]
    assert "unedited: France" in run(own / "headpursuit", *words, cwd=tmp_path, OMP_NUM_THREADS="1")
