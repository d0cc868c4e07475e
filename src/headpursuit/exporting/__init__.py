"""Make an edit permanent: a checkpoint with the scales in its weights, or an adapter that carries them."""
