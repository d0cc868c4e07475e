"""Text and JSON that enter, and CSV that leaves."""

import csv
import io
import json

import pandas as pd
import pytest

from headpursuit.errors import HeadPursuitError
from headpursuit.files import csv_text, parse_json, read_json

FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", "- red", "-x"]
HARMLESS = ["red", "", "-0.31", "+5%", "-", "-0.2 [-0.3, -0.1]", "+1.5 (0.2)", "a=b", "−1", "1e-5", "'=1"]


def test_no_text_in_a_table_is_a_formula():
    frame = pd.DataFrame({"=name": [*FORMULAS, *HARMLESS], "n": [-1.5] * (len(FORMULAS) + len(HARMLESS))}, index=None)
    header, *rows = csv.reader(io.StringIO(csv_text(frame, index=False), newline=""))
    assert header == ["'=name", "n"]
    assert [row[0] for row in rows] == [*(f"'{cell}".replace("\r", "\n") for cell in FORMULAS), *HARMLESS]
    assert {row[1] for row in rows} == {"-1.5"}
    named = pd.DataFrame({"a": [1]}, index=["=evil"])
    assert csv_text(named, index_label="concept") == "concept,a\n'=evil,1\n"


def test_tables_of_reports_are_written_so():
    from headpursuit.report.tables import Table

    table = Table("title", pd.DataFrame({"concept": ["=1+1"], "value": [-1]}), "")
    assert table.to_csv() == "concept,value\n'=1+1,-1\n"


def nested(levels):
    return "[" * levels + "]" * levels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (nested(20_000), "a.json: JSON nested more than 100 levels deep"),
        ('{"a":' * 20_000 + "1" + "}" * 20_000, "a.json: JSON nested more than 100 levels deep"),
        (nested(101), "a.json: JSON nested more than 100 levels deep"),
        ("9" * 5000, r"a.json: not valid JSON \(a number of more than 4300 digits\)"),
        ("[1,\n2", "a.json, line 2: not valid JSON"),
    ],
)
def test_json_that_no_reader_can_take_gets_one_line(text, message, tmp_path):
    with pytest.raises(HeadPursuitError, match=message) as refused:
        parse_json(text, where="a.json")
    assert "\n" not in str(refused.value)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(HeadPursuitError, match=message):
        read_json(tmp_path / "a.json")


def test_deep_but_not_too_deep_and_wide_json_is_read():
    assert parse_json(nested(100), where="a") == json.loads(nested(100))
    wide = [{"a": [number]} for number in range(1000)]
    assert parse_json(json.dumps(wide), where="a") == wide
