"""Data sets of the paper, from the Hub or from local files in their official formats, as records of one schema."""

from headpursuit.data.entries import SPLITS
from headpursuit.data.load import load_records
from headpursuit.data.registry import DATASETS, Dataset

__all__ = ["DATASETS", "SPLITS", "Dataset", "load_records"]
