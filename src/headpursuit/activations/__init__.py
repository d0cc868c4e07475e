"""Captures of what heads wrote: positions, recording, and the store on disk."""
