"""Find, explain and edit the attention heads of Hugging Face language and vision-language models.

Names are imported when they are first used, so that ``import headpursuit`` and ``headpursuit --help`` load no torch. Which
there are, and where they live, stands in ``__init__.pyi``.
"""

import lazy_loader

from headpursuit.errors import HeadPursuitError as HeadPursuitError
from headpursuit.versions import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
