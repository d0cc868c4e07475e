"""Heads that matter for a concept, and what they say: descriptions, rankings, the tests of both, random controls."""
