"""A search for an edit under limits."""
