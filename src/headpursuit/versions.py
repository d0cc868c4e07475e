"""The versions of the software that a number depends on."""

import platform

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """Versions by name: headpursuit, python, torch and transformers."""
    import torch
    import transformers

    return {
        "headpursuit": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
