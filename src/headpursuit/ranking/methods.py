"""Ways to look at what a head writes, and their names."""

from typing import Literal, get_args

from headpursuit.errors import check_choice

Method = Literal["somp", "logit_lens"]
METHODS: tuple[Method, ...] = get_args(Method)
# A ranking's scores, by the method that gave them.
MEASURES = {"somp": "explained variance", "logit_lens": "mean logit", "attribution": "derivative of the log-odds"}


def method_key(name: str) -> str:
    """A method's name as it is stored, from one that may be written with a hyphen or capitals."""
    return str(name).strip().lower().replace("-", "_")


def as_method(name: str) -> Method:
    """A method by its name, which may be written with a hyphen.

    Raises:
        HeadPursuitError: there is no such method.

    Examples:
        >>> as_method("logit-lens")
        'logit_lens'
    """
    method = method_key(name)
    check_choice(METHODS, method=method)
    return method  # type: ignore[return-value]
