"""The ways to draw SynthPS. A style decides how places, people and things look; plans and files are the same."""

from .classic import Classic
from .varied.style import Varied

STYLES: dict[str, Classic] = {'varied': Varied(), 'classic': Classic()}


def get_style(name: str) -> Classic:
    """Returns the style with this name.

    Raises:
        ValueError: If there is none.
    """
    if name not in STYLES:
        raise ValueError(f'style must be one of {", ".join(STYLES)}, got {name!r}')
    return STYLES[name]
