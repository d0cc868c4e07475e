"""Which heads matter for a concept: scores, the logit-lens baseline, random controls."""
