"""A session as the page shows it: pieces of HTML, in which all text is escaped."""

from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from headpursuit.app.playground import Found, Opened, Playground
from headpursuit.app.session import Session
from headpursuit.app.writing import Column
from headpursuit.drawing import heat_map, to_svg
from headpursuit.drawing.style import readable, signed, token
from headpursuit.editing.where import in_words
from headpursuit.model.heads import Head
from headpursuit.ranking.methods import MEASURES
from headpursuit.report.templating import environment
from headpursuit.report.text import number

_BEST = 5


def style() -> str:
    """The page's style sheet: the colours of every page of ours, the dark ones where gradio says so."""
    colours = environment().get_template("colours.css").render()
    own = resources.files("headpursuit.app").joinpath("templates", "app.css").read_text("utf-8")
    light, _, dark = colours.partition("@media")
    return f"{light}.dark {dark[dark.index('{', dark.index(':root')) : dark.index('}') + 1]}\n{own}"


@cache
def _parts() -> Any:
    made = environment("headpursuit.app")
    made.filters.update(token=token, readable=readable, number=number, zip=zip)
    return made.get_template("parts.html").module


def title_of(playground: Playground) -> str:
    """Which model this is, and on what its heads were seen."""
    return str(_parts().title(playground.model.source.id, playground.acts))


def map_of(session: Session) -> str:
    """The map of the concept's heads, each with its name for a pointer; empty before one was looked for."""
    if session.found is None:
        return ""
    ranking, standing = session.found.ranking, session.found.ranking.beyond_chance()
    title, label = readable(ranking.concept), MEASURES[ranking.method]
    figure = heat_map(
        ranking.scores,
        title=title,
        label=label,
        outlined=() if session.edit is None else session.edit.heads,
        dotted=standing or (),
        selection=ranking.method,
    )
    known, (layers, heads) = set(ranking.order()), ranking.scores.shape
    part = ranking.model.get("part", "text")
    each = [Head(layer, head, part) for layer in range(layers) for head in range(heads)]
    cells = [f"{one}: {number(ranking.score(one))}" if one in known else "no such head" for one in each]
    svg = to_svg(figure, title=f"Score of every head for {title}", cells=cells)
    best = [(one.name, ranking.score(one)) for one in ranking.order()[:_BEST]]
    return str(_parts().map(session.found, svg, best, None if standing is None else len(standing)))


def head_of(playground: Playground, session: Session, opened: Opened | None) -> str:
    """What is known of the opened head."""
    if opened is None:
        return '<div class="hp card"><p class="quiet">Click a square of the map to open a head.</p></div>'
    n_heads = len(playground.acts.heads())
    standing = [] if session.found is None else [_standing(session.found, opened.head, n_heads)]
    return str(_parts().head(opened, standing, playground.samples or (), n_heads))


def edit_of(session: Session) -> str:
    """The heads of the edit, each with its scale."""
    factors = () if session.edit is None else session.edit.factors
    return str(_parts().edit([(one.head.name, f"{one.head} × {signed(one.scale)}{in_words(one.where)}") for one in factors]))


def columns_of(columns: Sequence[Column], found: Found | None) -> str:
    """Texts side by side, the concept's words marked."""
    measured = any(one.count is not None for one in columns)
    return str(_parts().columns(columns, () if found is None else found.concept.words, measured))


def _standing(found: Found, head: Head, n_heads: int) -> str:
    ranking = found.ranking
    said = f"For {readable(ranking.concept)} it is number {ranking.order().index(head) + 1} of {n_heads}"
    z = ranking.values.get("logit_z")
    return said + ("." if z is None else f", {number(z[head.layer, head.head])} deviations above random words.")
