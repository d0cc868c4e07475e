"""What heads wrote: positions, capture, and the store on disk."""
