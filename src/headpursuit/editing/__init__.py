"""Change heads: an edit scales what chosen heads write, while it is applied."""
