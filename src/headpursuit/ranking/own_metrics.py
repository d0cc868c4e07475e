"""Metrics that are functions of a user's own: their names, and fingerprints that tell a cell scored by another version."""

import re
from collections.abc import Callable
from functools import partial
from types import BuiltinFunctionType, CodeType, EllipsisType, FunctionType, ModuleType
from typing import Any

from headpursuit.errors import HeadPursuitError
from headpursuit.files import digest
from headpursuit.model.samples import Sample, fingerprint

_PLAIN = (str, bytes, int, float, complex, EllipsisType, type(None))


def function_name(function: Callable[..., Any]) -> str:
    """The name of a function, or of the one that a ``functools.partial`` wraps; an object with a ``name`` has that one.

    Raises:
        HeadPursuitError: it is another kind of object.
    """
    return str(getattr(function, "name", None) or _innermost(function).__name__)


def function_fingerprint(function: Callable[..., Any]) -> str:
    """A function's name and a hash of what its values depend on; an object that is called may say that in ``fingerprint``.

    That is its code, defaults, and the values that it takes from around it; functions of its own module that it calls count
    likewise, those of other modules by their names.

    Raises:
        HeadPursuitError: it uses an object whose contents cannot be told.
    """
    if hasattr(function, "fingerprint"):
        return f"{function_name(function)} {digest({'fingerprint': function.fingerprint})}"
    inner = _innermost(function)
    try:
        content = _contents(function, inner.__module__, set())
    except ValueError as error:
        raise HeadPursuitError(
            f"metric {inner.__name__}: uses {error}, of which two versions cannot be told apart: use plain values, or call a "
            "function of another module that has it"
        ) from error
    return f"{inner.__module__}.{inner.__qualname__} {digest({'function': content})}"


def _innermost(function: Any) -> FunctionType | BuiltinFunctionType:
    inner = function
    while isinstance(inner, partial):
        inner = inner.func
    if not isinstance(inner, FunctionType | BuiltinFunctionType):
        raise HeadPursuitError(f"metric {inner!r:.60}: has no code to be known by; give a function that is made with def")
    return inner


def _contents(value: Any, module: str, seen: set[int]) -> Any:
    """Everything that a value consists of, as lists of texts."""
    parts: Any
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(value, Sample):
        return fingerprint([value])
    if isinstance(value, FunctionType | BuiltinFunctionType | type) and (value.__module__ != module or id(value) in seen):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, FunctionType):
        seen.add(id(value))
        around = {name: value.__globals__[name] for name in _names(value.__code__) if name in value.__globals__}
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        parts = (value.__qualname__, value.__code__, value.__defaults__, value.__kwdefaults__, cells, around)
    elif isinstance(value, CodeType):
        parts = (value.co_code, value.co_names, value.co_consts)
    elif isinstance(value, partial):
        parts = (value.func, value.args, value.keywords)
    elif isinstance(value, re.Pattern):
        parts = (value.pattern, value.flags)
    elif isinstance(value, list | tuple | set | frozenset | dict):
        parts = value.items() if isinstance(value, dict) else value
    else:
        raise ValueError(f"a {type(value).__name__}")
    found = [_contents(part, module, seen) for part in parts]
    return sorted(found, key=str) if isinstance(value, set | frozenset | dict) else found


def _names(code: CodeType) -> set[str]:
    """Names that a function may take from its module, those of functions inside it too."""
    inner = [one for one in code.co_consts if isinstance(one, CodeType)]
    return set(code.co_names).union(*map(_names, inner))
