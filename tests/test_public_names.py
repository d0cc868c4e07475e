"""The package from outside: its names, their types, and what importing it costs."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
import typing
from dataclasses import is_dataclass

import pytest

import headpursuit as hp
import headpursuit.concepts

NAMES = [
    *(f"headpursuit.{name}" for name in hp.__all__ if name not in ("__version__", "data", "pursuit", "report")),
    *(f"headpursuit.pursuit.{name}" for name in hp.pursuit.__all__),
]


# What may be left out and is given by position all the same, since there is nothing else that it could be.
BY_POSITION = {"headpursuit.evaluate": {"model"}, "headpursuit.wrap": {"processor"}, "headpursuit.verify": {"samples"}}
ORDER = (("model", "acts"), ("samples",), ("concept", "concepts"))


def found(path: str) -> object:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("path", NAMES)
def test_every_public_name_has_a_docstring_and_types_that_can_be_read(path):
    thing = found(path)
    assert inspect.getdoc(thing)
    hints = typing.get_type_hints(thing)
    if inspect.isfunction(thing):
        assert set(inspect.signature(thing).parameters) | {"return"} == set(hints), "each argument has a type"
    elif not issubclass(thing, Exception) and not (is_dataclass(thing) and thing.__dataclass_params__.init):
        typing.get_type_hints(thing.__init__)  # one that is made of fields has their types


ROOMS = (hp, hp.data, hp.pursuit, hp.report, headpursuit.concepts)
# The modules that hold a public name; what their functions give back is found there, too.
THINGS = [getattr(room, name) for room in ROOMS for name in room.__all__]
MODULES = sorted({thing.__module__ for thing in THINGS if inspect.isclass(thing) or inspect.isfunction(thing)})


def written(module):
    """Public functions, classes and methods of a module, by name."""
    for name, thing in vars(importlib.import_module(module)).items():
        if name.startswith("_") or getattr(thing, "__module__", None) != module:
            continue
        if inspect.isclass(thing) or inspect.isfunction(thing):
            yield name, thing
        for key, one in vars(thing).items() if inspect.isclass(thing) else ():
            function = getattr(one, "fget", None) or getattr(one, "func", None) or getattr(one, "__func__", one)
            if inspect.isfunction(function) and (not key.startswith("_") or key == "__init__"):
                yield f"{name}.{key}", function


@pytest.mark.parametrize("module", MODULES)
def test_types_of_every_function_and_method_can_be_read(module):
    for name, thing in written(module):
        try:
            typing.get_type_hints(thing)
        except NameError as error:
            pytest.fail(f"{module}.{name}: {error}")


def test_methods_are_looked_at():
    names = {f"{module}.{name}" for module in MODULES for name, _ in written(module)}
    assert {
        "headpursuit.ranking.describe.Descriptions.plot",
        "headpursuit.tuning.tune.Tuned.plot",
        "headpursuit.model.head_model.HeadModel.identity",
        "headpursuit.concepts.resolve.ResolutionReport.to_frame",
    } <= names


@pytest.mark.parametrize("path", NAMES)
def test_options_are_given_by_name(path):
    """Model or capture, samples and concept stand in this order; what may be left out is named."""
    thing = found(path)
    if not inspect.isfunction(thing):
        return
    parameters = inspect.signature(thing).parameters.values()
    by_position = [one for one in parameters if one.kind == one.POSITIONAL_OR_KEYWORD]
    left_out = {one.name for one in by_position if one.default is not one.empty}
    assert left_out == BY_POSITION.get(path, set())
    known = [names for one in by_position for names in ORDER if one.name in names]
    assert known == [names for names in ORDER if names in known]


def test_importing_the_package_loads_no_torch():
    code = (
        "import sys, headpursuit as hp\n"
        "heavy = {'torch', 'transformers', 'numpy', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert hp.pursuit.somp and hp.data.load_records and hp.report\n"
        "import headpursuit.ranking.describe, headpursuit.concepts.concept, headpursuit.tuning.tune\n"
        "import headpursuit.evaluation, headpursuit.exporting.export\n"
        "for name in ('describe', 'concept', 'tune', 'export'):\n"
        "    assert callable(getattr(hp, name)), name\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="find_heads"):
        hp.find_heads  # noqa: B018
