"""Import of the libraries that only some features need; the extras in ``pyproject.toml`` name them."""

from importlib import import_module
from typing import Any

from headpursuit.errors import MissingExtraError


def optional_import(module: str, *, package: str | None = None, extra: str, purpose: str) -> Any:
    """Import a library that need not be installed.

    Args:
        module: name to import, dotted where a submodule is wanted.
        package: name to install; the first part of ``module`` when left out.
        extra: the extra of this package that installs it.
        purpose: what needs it, the first words of the error.

    Returns:
        The module.

    Raises:
        MissingExtraError: the library, or one that it imports itself, is not installed.

    Example:
        >>> optional_import("scipy.io", extra="data", purpose="reading MATLAB files").__name__
        'scipy.io'
        >>> optional_import("nobody.wrote", extra="data", purpose="this example")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        headpursuit.errors.MissingExtraError: this example needs nobody, which is not installed: pip install ...
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(package or module.partition(".")[0], extra=extra, purpose=purpose) from error
