"""From a concept to an edited model in one call: data, search, texts, export, proof and upload, each done by its own room."""
