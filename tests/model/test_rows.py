"""Files of samples, row by row: what each format means, how far it is read, and what is refused."""

import gzip
import json
import tracemalloc

import pytest

import headpursuit as hp
from headpursuit.model.samples import as_samples

ROWS = [{"text": "a", "target": "b"}, {"text": "c, d\n\ve"}, {"text": "\u2028é"}]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def texts(path, **options):
    return [one.text for one in as_samples(path, **options)]


def test_line_breaks_in_a_quoted_field_stay(tmp_path):
    table = write(tmp_path / "a.csv", 'text,target\r\n"Question: red?\r\n\nAnswer:",x\r\nnext,y\r\n')
    found = as_samples(table)
    assert [one.text for one in found] == ["Question: red?\r\n\nAnswer:", "next"]
    assert [one.where for one in found] == ["a.csv line 4", "a.csv line 5"]


def test_lines_of_text_end_at_feeds_and_returns_alone(tmp_path):
    file = write(tmp_path / "a.txt", "\ufeffa\vb\x85c\u2028d\x1ce\rf\r\n\ng\n")
    assert [(one.text, one.where) for one in as_samples(file)] == [
        ("a\vb\x85c\u2028d\x1ce", "a.txt line 1"),
        ("f", "a.txt line 2"),
        ("g", "a.txt line 4"),
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", "\n".join(map(json.dumps, ROWS))),
        ("a.ndjson", "\r\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n"),
        ("a.json", json.dumps(ROWS)),
        ("b.json", "\ufeff" + json.dumps(ROWS, ensure_ascii=False, indent=3) + "\n"),
        ("a.csv", 'text,target\na,b\n"c, d\n\ve"\n\u2028é,\n'),
        ("b.csv", 'text;target\na;b\n"c, d\n\ve";\n\u2028é;\n'),
        ("a.tsv", 'text\ttarget\na\tb\n"c, d\n\ve"\t\n\u2028é\n'),
    ],
)
@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
def test_every_format_says_the_same_packed_or_not(tmp_path, name, content, packing):
    path = tmp_path / f"{name}{packing}"
    data = content.encode()
    if packing == ".gz":
        data = gzip.compress(data)
    if packing == ".zst":
        arrow = pytest.importorskip("pyarrow")
        data = arrow.compress(data, codec="zstd", asbytes=True)
    assert as_samples(write(path, data)) == [hp.Sample(**row) for row in ROWS]


def test_parquet_is_read_by_row_group_with_values_as_they_are(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = {"text": [str(number) for number in range(1000)], "target": [None, 3] * 500, "answers": [["x"]] * 1000}
    parquet.write_table(arrow.table(rows), tmp_path / "a.parquet", row_group_size=100)
    found = as_samples(tmp_path / "a.parquet")
    assert [one.text for one in found] == rows["text"]
    assert [one.target for one in found[:2]] == [None, "3"]  # a column with gaps is no column of fractions
    assert found[1].where == "a.parquet row 2"
    assert as_samples(tmp_path / "a.parquet", target_column="answers", limit=1)[0].target == "x"


def test_numbers_are_texts_as_they_are_written(tmp_path):
    file = write(
        tmp_path / "a.jsonl", '{"text": 0, "target": 1.10}\n{"text": 1e3, "target": ["Paris"]}\n{"text": "", "image": "a"}'
    )
    found = as_samples(file)
    assert [(one.text, one.target) for one in found] == [("0", "1.10"), ("1e3", "Paris"), ("", None)]
    digits = "9" * 5000
    assert texts(write(tmp_path / "b.json", f'[{{"text": {digits}}}]')) == [digits]
    assert as_samples([{"text": 0, "target": 0.5}]) == [hp.Sample(text="0", target="0.5")]


def test_a_field_of_two_hundred_thousand_characters_is_read_and_no_setting_of_csv_changed(tmp_path):
    import csv

    before = csv.field_size_limit()
    assert texts(write(tmp_path / "a.csv", f'text\n"{"x" * 200_000}"\n')) == ["x" * 200_000]
    assert csv.field_size_limit() == before


def deep(levels):
    return "[" * levels + "]" * levels


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": NaN}', r"a\.jsonl line 1: the field 'text' is nan; give a text"),
        ("a.jsonl", '{"text": -Infinity}', "the field 'text' is -inf"),
        (
            "a.jsonl",
            '{"text": "a"}\n{"text": "b", "target": ["Paris", "paris"]}',
            r"line 2: the field 'target' is a list of 2 texts",
        ),
        ("a.jsonl", '{"text": {"a": 1}}', "the field 'text' is {'a': '1'}"),
        ("a.jsonl", '{"text": "a", "target": [{}]}', r"the field 'target' is \[{}\]"),
        ("a.jsonl", '{"text": "a", "chat": "perhaps"}', "the field 'chat' is 'perhaps'; write true or false"),
        ("a.jsonl", '{"text": "\\ud800"}', r"line 1: the text holds '\\ud800', no character"),
        ("a.jsonl", f'{{"text": "a", "more": {deep(20_000)}}}', "a.jsonl line 1: JSON nested more than 100 levels"),
        ("a.jsonl", f'{{"text": "a", "more": {deep(200)}}}', "a.jsonl line 1: JSON nested more than 100 levels"),
        ("a.json", f'[{{"text": "a"}}, {deep(20_000)}]', "a.json item 2: JSON nested more than 100 levels"),
        ("a.json", f"[{deep(200)}]", "a.json item 1: JSON nested more than 100 levels"),
        ("a.json", '{"text": "a"}\n{"text": "b"}', r"expected a list of prompts or records; call a file .* \.jsonl"),
        ("a.json", '[{"text": "a"} {"text": "b"}]', r"a\.json item 2: not JSON \(expected a comma"),
        ("a.json", '[{"text": "a"},', "item 2: not JSON"),
        ("a.json", '[{"text": "a"}', "the list does not end"),
        ("a.json", "", "holds no samples"),
        ("a.json", "[]", "holds no samples"),
        ("a.json", b'["\xff"]', r"a\.json: not UTF-8"),
        ("a.csv", "text\nHello, world\n", r"a\.csv line 2: 2 fields, where the first line names 1; .* in quotes"),
        ("a.csv", "text,text\na,b\n", "two columns are called 'text'"),
        ("a.csv", 'text\n"a\n', r"a\.csv, line 2: not readable as CSV"),
        ("a.csv", "text\na\n\xff\n".encode("latin-1"), r"a\.csv line 3: not UTF-8"),
        ("a.csv", "", "holds no samples"),
        ("a.txt", "x" * 20_000_000, r"a\.txt line 1: the text has 20,000,000 characters, and no more than 2,000,000 are read"),
        ("a.txt", "ok\n" + "x" * (64 * 2**20 + 1), r"a\.txt line 2: more than 64 MiB"),
        ("a.txt.gz", b"text", r"cannot read .*a\.txt\.gz: Not a gzipped file"),
        ("a.txt.gz", gzip.compress(b"text\n" * 9999)[:-9], r"cannot read .*a\.txt\.gz: Compressed file ended"),
        ("a.txt.zst", b"text", r"cannot read .*a\.txt\.zst: ZSTD"),
        ("a.parquet", b"text", "not a readable Parquet file"),
        ("a.gz", b"text", "samples are read from"),
    ],
)
def test_what_cannot_be_read_gets_one_line_that_names_it(tmp_path, name, content, message):
    with pytest.raises(hp.HeadPursuitError, match=message) as refused:
        as_samples(write(tmp_path / name, content))
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl", "a.json", "a.txt.gz", "a.parquet"])
def test_a_limit_stops_reading(tmp_path, name):
    """Behind what a limit keeps stands what would be refused, and a large file takes no more memory than a small one."""
    count, end = 20_000, "\ud800 no row of any format".encode("utf-8", "surrogatepass")
    rows = [f"row {number}" for number in range(count)]
    if name == "a.parquet":
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(arrow.table({"text": rows}), tmp_path / name, row_group_size=100)
    else:
        lines = {
            ".txt": "\n".join(rows),
            ".csv": "text\n" + "\n".join(rows),
            ".jsonl": "\n".join(json.dumps({"text": row}) for row in rows),
            ".json": json.dumps([{"text": row} for row in rows])[:-1],
        }[".txt" if name.endswith(".gz") else f".{name.rpartition('.')[2]}"]
        data = lines.encode() + b"\n" + end
        write(tmp_path / name, gzip.compress(data) if name.endswith(".gz") else data)
        with pytest.raises(hp.HeadPursuitError):
            as_samples(tmp_path / name)
    tracemalloc.start()
    assert texts(tmp_path / name, limit=10) == rows[:10]
    assert texts(tmp_path / name, limit=1000, sample=5) == texts(rows[:1000], sample=5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_draw_keeps_no_more_than_it_gives_and_favours_none():
    def endless(count):
        return ({"text": str(number)} for number in range(count))

    tracemalloc.start()
    drawn = texts(endless(50_000), sample=10)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000
    assert drawn == sorted(drawn, key=int) == texts([str(number) for number in range(50_000)], sample=10)
    counts = [0] * 8
    for seed in range(2000):
        for text in texts(endless(8), sample=3, seed=seed):
            counts[int(text)] += 1
    assert all(650 < count < 850 for count in counts), counts  # 750 each, four standard deviations about 87


@pytest.mark.parametrize(
    ("row", "sample"),
    [
        ({"question": "q", "answer": "a"}, hp.Sample("q", target="a")),
        ({"question": "q", "answers": ["a", "b"]}, hp.Sample("q")),
        ({"prompt": {"text": "p", "toxicity": 0.1}, "challenging": True}, hp.Sample("p")),
        ({"sentence": 3, "label": 1}, hp.Sample("3")),
        ({"question": "q", "image_path": "a.png"}, hp.Sample("q", image="a.png")),
        ({"text": "t", "question": "q", "answer": "a"}, hp.Sample("t")),
    ],
)
def test_usual_names_are_known_where_they_leave_no_doubt(row, sample):
    assert as_samples([row]) == [sample]


def test_fields_can_be_named(tmp_path):
    rows = [{"meta": {"body": "t"}, "a.b": "dotted", "picture": "x/y.png", "said": 5}]
    file = write(tmp_path / "a.jsonl", json.dumps(rows[0]))
    assert as_samples(file, text_column="meta.body", image_column="picture", target_column="said") == [
        hp.Sample("t", image=tmp_path / "x" / "y.png", target="5")
    ]
    assert texts(rows, text_column="a.b") == ["dotted"]
    for given, message in (
        (
            {"text_column": "meta.title"},
            r"sample 0: no field 'meta.title' \(it has meta, a.b, picture, said\); .*--text-column",
        ),
        ({"text_column": "meta"}, "the field 'meta' is {'body': 't'}; give a text"),
        ({"target_column": "none"}, "no field 'none' .*--target-column"),
        ({}, r"neither text nor image; .*--text-column\) \(it has meta, a.b"),
    ):
        with pytest.raises(hp.HeadPursuitError, match=message):
            as_samples(rows, **given)
    with pytest.raises(hp.HeadPursuitError, match=r"the text may be question or prompt; say which with .*--text-column"):
        as_samples([{"question": "a", "prompt": "b"}])


def test_what_libraries_hold_is_taken_row_by_row():
    import pandas as pd

    assert texts(pd.Series(["a", "b"])) == ["a", "b"]
    with pytest.raises(hp.HeadPursuitError, match="sample 1: None is neither a text"):
        as_samples(["a", None])
    with pytest.raises(hp.HeadPursuitError, match="sample 1: nan is neither a text"):
        as_samples(pd.Series(["a", None]))
    with pytest.raises(hp.HeadPursuitError, match="sample 0: int is neither a text"):
        as_samples([10**5000])
    with pytest.raises(hp.HeadPursuitError, match="sample 0: the field 'text' is int; give a text"):
        as_samples([{"text": 10**5000}])
    frame = pd.DataFrame({"text": ["a", "b"], "chat": [0, None]})
    assert [one.chat for one in as_samples(frame)] == [False, True]
    arrow = pytest.importorskip("pyarrow")
    assert texts(arrow.table({"text": ["a"]})) == ["a"]
    datasets = pytest.importorskip("datasets")
    streamed = datasets.Dataset.from_list([{"text": "a"}, {"text": "b"}]).to_iterable_dataset()
    assert texts(streamed, limit=1) == ["a"]


def test_a_sample_is_looked_at_where_it_is_made():
    for wrong, message in (
        ({"text": 3}, "the text is 3; give a text"),
        ({"text": None}, "the text is None"),
        ({"target": ["a"]}, r"the target is \['a'\]"),
        ({"image": 3}, "the image 3 is neither"),
        ({"text": "x" * 2_000_001, "where": "here"}, "here: the text has 2,000,001 characters"),
    ):
        with pytest.raises(hp.HeadPursuitError, match=message):
            hp.Sample(**wrong)


def test_own_data_are_read_by_the_same_reader(tmp_path):
    from headpursuit.data.own import own_entries

    fields = {"text": "q.text", "answers": "a", "image": "image", "label": "label", "references": "references"}
    data = gzip.compress(b'{"q": {"text": 1.10}, "a": ["x", 2.50]}\n{"q": {"text": NaN}}\n')
    entries = own_entries(write(tmp_path / "own.jsonl.gz", data), fields=fields)
    record = next(entries).make()
    assert (record.text, record.answers, record.where) == ("1.10", ("x", "2.50"), "own.jsonl.gz line 1")
    with pytest.raises(hp.HeadPursuitError, match=r"own\.jsonl\.gz line 2: the field 'q\.text' is nan"):
        next(entries)
    with pytest.raises(hp.HeadPursuitError, match=r"row 1: the text has 3,000,000 characters"):
        next(own_entries([{"q": {"text": "x" * 3_000_000}}], fields=fields))
    with pytest.raises(hp.HeadPursuitError, match=r"row 1: no field 'q\.text' with a text; it has text"):
        next(own_entries([{"text": "a"}], fields=fields))
