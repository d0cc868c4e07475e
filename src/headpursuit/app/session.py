"""What one visitor has before them: a concept, an opened head, and an edit with the edits before it."""

from dataclasses import dataclass, replace

from headpursuit.app.playground import Found
from headpursuit.editing.edit import Factor, HeadEdit
from headpursuit.editing.where import ALL, Where, as_where
from headpursuit.errors import HeadPursuitError
from headpursuit.model.heads import Head


@dataclass(frozen=True, eq=False)
class Session:
    """One visitor's view, a value: every step gives a new one.

    Attributes:
        found: the concept looked for, with its ranking.
        opened: the head that is looked at.
        edit: the heads that are scaled, None where none are.
        before: earlier edits, the latest last.
        scale: the scale that a head gets when it is taken into the edit.
        where: the tokens at which it holds.
    """

    found: Found | None = None
    opened: Head | None = None
    edit: HeadEdit | None = None
    before: tuple[HeadEdit | None, ...] = ()
    scale: float = -1.0
    where: Where = ALL

    def has(self, head: Head | None) -> bool:
        """Whether a head is in the edit."""
        return self.edit is not None and head in self.edit.heads


def edited(session: Session, edit: HeadEdit | None) -> Session:
    """Another edit; the one before can be had back."""
    return session if edit == session.edit else replace(session, edit=edit, before=(*session.before, session.edit))


def flipped(session: Session) -> Session:
    """The opened head taken into the edit, with the session's scale, or out of it."""
    if session.opened is None:
        raise HeadPursuitError("no head is open: click one on the map")
    kept = () if session.edit is None else session.edit.factors
    if session.has(session.opened):
        kept = tuple(one for one in kept if one.head != session.opened)
    else:
        kept = (*kept, Factor(session.opened, session.scale, session.where))
    return edited(session, HeadEdit.of(kept) if kept else None)


def best(session: Session, k: float | None) -> Session:
    """The edit of the ``k`` best heads of the concept, in place of what was there.

    Raises:
        HeadPursuitError: no concept was looked for, or there are not so many heads.
    """
    if session.found is None:
        raise HeadPursuitError("no heads were found yet: type a concept first")
    return edited(session, HeadEdit(session.found.ranking.top(int(k or 0)), scale=session.scale, where=session.where))


def scaled(session: Session, scale: float, where: str) -> Session:
    """Another scale and other tokens, for all heads of the edit and those to come."""
    changed = replace(session, scale=float(scale), where=as_where(where))
    if session.edit is None:
        return changed
    return edited(changed, HeadEdit(session.edit.heads, scale=changed.scale, where=changed.where))


def undone(session: Session) -> Session:
    """The edit before this one."""
    return replace(session, edit=session.before[-1], before=session.before[:-1]) if session.before else session
