"""Pages and pictures of a run; importing this loads neither torch nor a drawing library."""

from headpursuit.report.across import render_concept_map, render_overlap
from headpursuit.report.content import ConceptSection, DescribedHead, Example, RunReport, Verdict
from headpursuit.report.figure import render_readme_figure
from headpursuit.report.from_outcomes import outcomes_report
from headpursuit.report.html import render_report
from headpursuit.report.store import load_run, save_run

__all__ = [
    "ConceptSection",
    "DescribedHead",
    "Example",
    "RunReport",
    "Verdict",
    "load_run",
    "outcomes_report",
    "render_concept_map",
    "render_overlap",
    "render_readme_figure",
    "render_report",
    "save_run",
]
