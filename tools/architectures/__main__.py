"""``make architectures``: examine every type of both mappings, and write the table and its page."""

from __future__ import annotations

import argparse
from collections import Counter
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import transformers
from tqdm.auto import tqdm

from architectures.dtypes import examine_dtypes
from architectures.shrink import MAPPINGS
from architectures.sweep import examine, quiet
from headpursuit.model.architectures import PARTLY, SUPPORTED, Table, as_markdown, load_table, save_table

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m architectures", description=__doc__)
    parser.add_argument("types", nargs="*", help="only these model types; nothing is written then")
    parser.add_argument("--dtypes", action="store_true", help="prove heads in every dtype behind eager and sdpa instead")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the work")
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn"), initializer=quiet) as pool:
        return _dtypes(options.types, pool) if options.dtypes else _states(options.types, pool)


def _states(types: list[str], pool: Executor) -> int:
    chosen = [(name, mapping) for mapping, names in MAPPINGS.items() for name in names if not types or name in types]
    rows = tuple(tqdm(pool.map(examine, *zip(*chosen, strict=True)), total=len(chosen)))
    table = Table(transformers=transformers.__version__, rows=rows)
    if types:
        for row in rows:
            print(f"{row.mapping} {row.type}: {row.state} {row.reason}")
        return 0
    save_table(table)
    PAGE.write_text(as_markdown(table), encoding="utf-8")
    print(table.summary())
    return 0


def _dtypes(types: list[str], pool: Executor) -> int:
    held = [row for row in load_table().rows if row.state in (SUPPORTED, PARTLY) and (not types or row.type in types)]
    found = pool.map(examine_dtypes, [row.type for row in held], [row.mapping for row in held])
    outcomes = [one for outcomes in tqdm(found, total=len(held)) for one in outcomes]
    counts = Counter(
        (one.dtype, one.kernel, "not offered" if not one.offered else "refused" if one.reason else "proven") for one in outcomes
    )
    for (dtype, kernel, state), count in sorted(counts.items()):
        print(f"{dtype} {kernel}: {count} {state}")
    refused = [one for one in outcomes if one.offered and one.reason]
    for one in refused:
        print(f"{one.type} {one.dtype} {one.kernel}: {one.reason}")
    return 1 if refused else 0


if __name__ == "__main__":
    raise SystemExit(main())
