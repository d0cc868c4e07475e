"""Ways to choose heads, and their names: of all that score a capture, all that put heads in order, and all that are shown."""

from typing import Literal, get_args

from headpursuit.errors import check_choice

Method = Literal["somp", "logit_lens"]
METHODS: tuple[Method, ...] = get_args(Method)
LOGIT_LENS: Method = "logit_lens"
# Both at once, measured by chance: what heads are ranked by where nothing else is asked for.
CALIBRATED: Literal["calibrated"] = "calibrated"
RankingMethod = Literal["calibrated", Method]
# What heads are selected by where a model and answers are there and nothing else is asked for.
CONTEST: Literal["contest"] = "contest"
# By what pursuits choose: the paper's sum of absolute correlations, which is that of rows, or their energy.
CRITERIA = ("l1", "l2")
# What recipes edit the heads of: the methods of a capture, and two that run the model.
Order = Literal["contest", RankingMethod, "attribution"]
ORDERS: tuple[Order, ...] = (CONTEST, CALIBRATED, "somp", LOGIT_LENS, "attribution")
Selection = Literal[Order, "tuned", "random", "none"]
# How heads were chosen, in the order in which it is shown.
SELECTIONS: tuple[Selection, ...] = ("tuned", *ORDERS, "random")
# So many of the best heads are shown where nothing else is asked for.
SHOWN = 16
# A ranking's scores, by the method that gave them.
MEASURES = {
    CALIBRATED: "correlation × deviations above chance",
    "somp": "explained variance",
    "logit_lens": "mean logit",
    "attribution": "derivative of the log-odds",
    "integrated": "integrated derivative of the log-odds",
    "natural": "derivative over the root of the Fisher information",
    "contest": "score of the method that won",
    "greedy": "heads behind it",
    "knockout": "effect of the edit",
    "cosine": "cosine with the concept",
    "fusion": "effect of the edit, of candidates",
}
SELECTORS = tuple(MEASURES)
# What puts knock-outs in order.
KnockoutOrder = Literal["effect", "effect_per_cost", "natural"]
KNOCKOUT_ORDERS: tuple[KnockoutOrder, ...] = get_args(KnockoutOrder)
# Units of those scores that a capture gives.
UNITS = {CALIBRATED: "deviations", "somp": "share of variance", "logit_lens": "logits"}


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


def as_ranking_method(name: str) -> RankingMethod:
    """A method that ranks heads from a capture, by its name.

    Raises:
        HeadPursuitError: there is no such method.
    """
    method = method_key(name)
    check_choice((CALIBRATED, *METHODS), method=method)
    return method  # type: ignore[return-value]


def check_criterion(criterion: str | None) -> None:
    """Refuse what is no criterion of a pursuit; None is left alone.

    Raises:
        HeadPursuitError: there is no such criterion.
    """
    if criterion is not None:
        check_choice(CRITERIA, criterion=criterion)


def as_selector(name: str) -> str:
    """A method of :func:`headpursuit.select` by its name, which may be written with a hyphen.

    Raises:
        HeadPursuitError: there is no such method.
    """
    method = method_key(name)
    check_choice(SELECTORS, method=method)
    return method
