"""The names of the demo's splits: what it learned from, what heads are chosen on, and what they are judged by."""

from typing import Literal

Split = Literal["train", "selection", "test"]
SPLITS: tuple[Split, ...] = ("train", "selection", "test")
