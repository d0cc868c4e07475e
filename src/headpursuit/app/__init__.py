"""The playground: a page on which heads are found, opened, scaled and heard, beside the unedited model and random heads."""
