"""SynthPS: drawn scenes with pedestrians, in the file layouts of CUHK-SYSU and PRW.

It serves learning, tests and demos where the real data is not at hand. It imports nothing from the rest of mmps.
"""

from .contact_sheet import contact_sheet
from .generate import OutputInUse, generate
from .layouts import write_annotations
from .plan import LAYOUTS, Person, Plan, Scene, plan
from .scene import Studio, render_scene
from .size import SIZES, Size
from .styles import STYLES

__all__ = [
    'LAYOUTS',
    'SIZES',
    'STYLES',
    'OutputInUse',
    'Person',
    'Plan',
    'Scene',
    'Size',
    'Studio',
    'contact_sheet',
    'generate',
    'plan',
    'render_scene',
    'write_annotations',
]
