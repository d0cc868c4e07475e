"""Names of heads, in all the ways in which people write them."""

from __future__ import annotations

import numpy as np
import pytest

import headpursuit as hp
from headpursuit.model.heads import Head, parse_heads


@pytest.mark.parametrize(
    "written", ["L18.H27", "l18.h27", "L18H27", " 18.27 ", "18.H27", "L18.27", (18, 27), [18, 27], Head(18, 27)]
)
def test_a_head_is_read_however_it_is_written(written):
    assert Head.parse(written) == Head(18, 27)
    assert parse_heads(written) == parse_heads([written]) == (Head(18, 27),)


def test_other_parts_have_letters_of_their_own():
    assert parse_heads("L3.X5,l3v5") == (Head(3, 5, "cross"), Head(3, 5, "vision"))


def test_several_heads_keep_their_order():
    expected = (Head(17, 2), Head(14, 0), Head(3, 5))
    for several in ("L17.H2, L14.H0,3.5", ["L17.H2,L14.H0", (3, 5)], np.array([[17, 2], [14, 0], [3, 5]]).tolist()):
        assert parse_heads(several) == expected
    assert parse_heads(Head(*pair) for pair in np.array([[17, 2]])) == expected[:1]
    assert parse_heads([]) == ()


@pytest.mark.parametrize("wrong", ["", "1827", "18", "L18", "H27", 18.27, None, (1, 2, 3), (-1, 2), "L1.H2;L1.H3", {"a": 1}])
def test_what_is_no_head_is_refused_in_one_line(wrong):
    with pytest.raises(hp.HeadPursuitError, match=r"write L18\.H27 for layer 18, head 27") as refused:
        parse_heads(wrong if wrong is None else [wrong])
    assert "\n" not in str(refused.value)


def test_a_head_stands_once():
    with pytest.raises(hp.HeadPursuitError, match=r"L1\.H2 is named twice"):
        parse_heads(["L1.H2", (1, 2)])
