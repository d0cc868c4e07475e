"""Ways to look at what a head writes, and their names."""

from typing import Literal, get_args

from headpursuit.errors import HeadPursuitError

Method = Literal["somp", "logit_lens"]
METHODS: tuple[Method, ...] = get_args(Method)
LOGIT_LENS = "logit_lens"
# So many of the best heads are shown where nothing else is asked for.
SHOWN = 16
# Explained variance above what random token sets reach: what heads are ranked by where nothing else is asked for.
CALIBRATED = "calibrated"
# A ranking's scores, by the method that gave them.
MEASURES = {
    CALIBRATED: "explained variance above chance",
    "somp": "explained variance",
    "logit_lens": "mean logit",
    "attribution": "derivative of the log-odds",
}


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
    if method not in METHODS:
        raise HeadPursuitError(f"method={name!r}: choose one of {', '.join(METHODS)}")
    return method


def as_ranking_method(name: str) -> str:
    """A method that ranks from a capture, by its name.

    Raises:
        HeadPursuitError: there is no such method.
    """
    method = method_key(name)
    if method not in (CALIBRATED, *METHODS):
        raise HeadPursuitError(f"method={name!r}: choose one of {', '.join((CALIBRATED, *METHODS))}")
    return method
