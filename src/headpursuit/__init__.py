"""Find, explain and edit the attention heads of Hugging Face models."""
