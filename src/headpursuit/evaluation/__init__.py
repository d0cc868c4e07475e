"""Evaluation of edits: tasks, metrics, and the protocol that puts every result beside its controls."""
