"""``make architectures``: examine every type of both mappings, and write the table and its page."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from tqdm.auto import tqdm

from architectures.shrink import MAPPINGS
from architectures.sweep import examine_all
from headpursuit.model.architectures import Table, as_markdown, save_table

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"


def main() -> None:
    torch.set_num_threads(1)
    rows = tuple(tqdm(examine_all(), total=sum(map(len, MAPPINGS.values()))))
    table = Table(transformers=transformers.__version__, rows=rows)
    save_table(table)
    PAGE.write_text(as_markdown(table), encoding="utf-8")
    print(table.summary())


main()
