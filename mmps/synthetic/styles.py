"""The styles by name."""

from typing import Any

from .classic import Classic
from .style import Style
from .varied.style import Varied

STYLES: dict[str, Style[Any]] = {'varied': Varied(), 'classic': Classic()}


def get_style(name: str) -> Style[Any]:
    """Returns the style with this name.

    Raises:
        ValueError: If there is none.
    """
    if name not in STYLES:
        raise ValueError(f'style must be one of {", ".join(STYLES)}, got {name!r}')
    return STYLES[name]
