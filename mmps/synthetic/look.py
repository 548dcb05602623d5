"""Body, clothes and bag of a person. An identity has the same look in all its sightings."""

import random
from dataclasses import dataclass

from .drawing import Colour
from .seeds import weighted_choice


def _bgr(code: str) -> Colour:
    """Turns 'c0392b' (RGB) into (43, 57, 192), OpenCV's order."""
    return int(code[4:6], 16), int(code[2:4], 16), int(code[0:2], 16)


# Few colours, so that many people share each. Combinations and small details tell people apart.
UPPER = [_bgr(c) for c in ('26282d', 'd9d8d4', '8a8d92', '273a66', 'a32f32', '3f6b4c', 'c2a33f', '4d82b0')]
LOWER = [_bgr(c) for c in ('25262a', '33456b', '6e7f9b', '7b6f5f', '55585c', 'b5a98f')]
ACCENT = [_bgr(c) for c in ('e8e6e0', '1d1e22', 'b03a2e', 'd6b23a', '2f5f9e')]
BAGS = [_bgr(c) for c in ('1f2023', '6b4a30', '7d2c35', '3d5a45', '2d4470', 'b89b72')]
SHOES = [_bgr(c) for c in ('1c1c1e', 'dcdad6', '5f4430', '9b3030')]
SKIN = [_bgr(c) for c in ('f0cdb4', 'e0b08f', 'c68d66', '93613f', '5f3d2a')]
HAIR = [_bgr(c) for c in ('17140f', '3a261b', '6b4427', 'b08d57', '8f8c88', '7a3218')]

HAIR_STYLES = {'short': 5, 'crop': 3, 'bald': 1, 'bob': 3, 'long': 4, 'ponytail': 3, 'bun': 2}
UPPER_KINDS = {'tshirt': 5, 'shirt': 3, 'hoodie': 3, 'jacket': 4, 'coat': 3, 'vest': 1.5, 'dress': 1.2}
PATTERNS = {'plain': 6, 'logo': 3, 'stripes': 3, 'pinstripes': 1.5, 'checks': 2, 'block': 2, 'band': 1.5}
LOWER_KINDS = {'trousers': 5, 'slim': 4, 'wide': 2, 'shorts': 2.5, 'skirt': 1.5, 'long_skirt': 1}
HATS = {'none': 7, 'cap': 1.6, 'beanie': 1.2, 'brim': 0.8}
BAG_KINDS = {'none': 4, 'backpack': 3, 'crossbody': 2.2, 'tote': 2}
LOGOS = ('disc', 'square', 'bar', 'triangle', 'ring')
# Where the upper garment ends, in body heights above the ground.
HEMS = {
    'tshirt': (0.45, 0.49),
    'shirt': (0.43, 0.47),
    'hoodie': (0.44, 0.47),
    'jacket': (0.43, 0.49),
    'coat': (0.26, 0.36),
    'vest': (0.45, 0.48),
    'dress': (0.46, 0.48),
}
# Sleeve length relative to the arm: 0 no sleeve, 0.5 to the elbow, 1 to the wrist.
SLEEVES = {
    'tshirt': (0.3, 0.5),
    'shirt': (0.9, 1.0),
    'hoodie': (1.0, 1.0),
    'jacket': (0.95, 1.0),
    'coat': (1.0, 1.0),
    'vest': (0.0, 0.0),
    'dress': (0.0, 0.55),
}


@dataclass(frozen=True)
class Look:
    """One person's look. Lengths are in body heights, colours are BGR."""

    height: float  # relative to the average person
    girth: float  # body width, relative to the average person
    shoulders: float  # shoulder width relative to hip width, 1 = average
    skin: Colour
    beard: bool
    hair: str
    hair_colour: Colour
    hat: str
    hat_colour: Colour
    upper: str
    upper_colour: Colour
    accent: Colour  # second colour, of the pattern or of the shirt under an open jacket
    pattern: str
    pitch: float  # stripe or check width
    hem: float
    sleeve: float
    is_open: bool  # a jacket or coat worn open
    logo: str
    logo_size: float
    lower: str
    lower_colour: Colour
    side_stripe: bool
    shoe_colour: Colour
    boots: bool
    bag: str
    bag_colour: Colour
    bag_side: int  # +1 carried on the person's left, -1 on the right
    scarf: bool
    fabric: int = 0  # picks folds and texture, which the classic style does not have


def draw_look(rng: random.Random) -> Look:
    """Returns a random look."""
    upper = weighted_choice(rng, UPPER_KINDS)
    feminine = upper == 'dress' or rng.random() < 0.45
    hair = weighted_choice(rng, HAIR_STYLES)
    if feminine and hair in ('bald', 'crop'):
        hair = 'long'
    lower = weighted_choice(rng, LOWER_KINDS)
    if upper == 'dress':
        lower = rng.choice(('skirt', 'skirt', 'long_skirt'))
    elif not feminine and lower in ('skirt', 'long_skirt'):
        lower = 'trousers'
    upper_colour = rng.choice(UPPER)
    pattern = weighted_choice(rng, PATTERNS)
    return Look(
        height=min(max(rng.gauss(0.95 if feminine else 1.02, 0.045), 0.84), 1.12),
        girth=min(max(rng.gauss(1.0, 0.11), 0.8), 1.32),
        shoulders=rng.uniform(0.92, 1.0) if feminine else rng.uniform(1.0, 1.1),
        skin=rng.choice(SKIN),
        beard=not feminine and rng.random() < 0.25,
        hair=hair,
        hair_colour=rng.choice(HAIR),
        hat=weighted_choice(rng, HATS),
        hat_colour=rng.choice(ACCENT),
        upper=upper,
        upper_colour=upper_colour,
        accent=rng.choice([c for c in ACCENT if _distance(c, upper_colour) > 90]),
        pattern=pattern,
        pitch=rng.choice((0.018, 0.028, 0.042)),
        hem=rng.uniform(*HEMS[upper]),
        sleeve=rng.uniform(*SLEEVES[upper]),
        is_open=upper in ('jacket', 'coat') and rng.random() < 0.55,
        logo=rng.choice(LOGOS),
        logo_size=rng.uniform(0.028, 0.05),
        lower=lower,
        lower_colour=upper_colour if upper == 'dress' else rng.choice(LOWER),
        side_stripe=lower in ('trousers', 'wide', 'shorts') and rng.random() < 0.25,
        shoe_colour=rng.choice(SHOES),
        boots=rng.random() < 0.2,
        bag=weighted_choice(rng, BAG_KINDS),
        bag_colour=rng.choice(BAGS),
        bag_side=rng.choice((-1, 1)),
        scarf=upper in ('jacket', 'coat') and rng.random() < 0.3,
    )


def _distance(a: Colour, b: Colour) -> int:
    """Returns the sum of absolute channel differences."""
    return sum(abs(x - y) for x, y in zip(a, b, strict=True))
