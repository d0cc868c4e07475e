"""Ways to look at what a head writes, and their names."""

from typing import Literal, get_args

from headpursuit.errors import HeadPursuitError, did_you_mean

Method = Literal["somp", "logit_lens"]
METHODS: tuple[Method, ...] = get_args(Method)
# A ranking's scores, by the method that gave them.
MEASURES = {
    "somp": "explained variance",
    "logit_lens": "mean logit",
    "attribution": "derivative of the log-odds",
    "integrated": "integrated derivative of the log-odds",
    "greedy": "heads behind it",
    "knockout": "effect of the edit",
    "cosine": "cosine with the concept",
    "fusion": "effect of the edit, of candidates",
}
SELECTORS = tuple(MEASURES)
# Units of those scores that a capture gives.
UNITS = {"somp": "share of variance", "logit_lens": "logits"}


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


def as_selector(name: str) -> str:
    """A method of :func:`headpursuit.select` by its name, which may be written with a hyphen.

    Raises:
        HeadPursuitError: there is no such method.
    """
    method = method_key(name)
    if method not in SELECTORS:
        raise HeadPursuitError(f"method={name!r}: {did_you_mean(method, SELECTORS)}choose one of {', '.join(SELECTORS)}")
    return method
