"""A transformer seen as a set of heads: loading, anatomy, samples, and the embedded demo."""
