"""Pages, tables and figures of every result: one evaluation or several, a tuned edit, a ranking; the atlas of a model."""

from headpursuit.report.atlas import atlas
from headpursuit.report.figures import figures
from headpursuit.report.page import page
from headpursuit.report.readme_figure import render_readme_figure
from headpursuit.report.tables import Table, overview, tables
from headpursuit.report.write import load, write_report

__all__ = ["Table", "atlas", "figures", "load", "overview", "page", "render_readme_figure", "tables", "write_report"]
