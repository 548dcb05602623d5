"""How much SynthPS there is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Counts of one data set.

    Args:
        name (str): Its name.
        height (int): Of a scene, in pixels.
        width (int): Of a scene, in pixels.
        train_scenes (int): Training scenes.
        test_scenes (int): Test scenes: the pool.
        train_ids (int): Labelled identities in the training scenes.
        test_ids (int): Labelled identities in the test scenes; others than those.
        persons (tuple[int]): Fewest and most people a scene. An unlabelled one for whom there is no room stays away.
        cameras (int): Places, 1 to 6.
        queries (int): Test sightings to look for, each of another identity as long as there are any.
    """

    name: str
    height: int
    width: int
    train_scenes: int
    test_scenes: int
    train_ids: int
    test_ids: int
    persons: tuple[int, int]
    cameras: int
    queries: int

    def __post_init__(self):
        if not 1 <= self.cameras <= 6:
            raise ValueError(f'size {self.name}: PRW names cameras 1 to 6, got {self.cameras} cameras')
        if not 1 <= self.persons[0] <= self.persons[1]:
            raise ValueError(f'size {self.name}: persons must be (fewest, most) with 1 <= fewest <= most, got {self.persons}')
        object.__setattr__(self, 'persons', tuple(self.persons))


SIZES = {
    size.name: size
    for size in (
        Size('tiny', 128, 224, 24, 16, 10, 8, (2, 4), 3, 8),
        Size('mini', 192, 336, 400, 600, 80, 300, (4, 7), 3, 300),
        Size('small', 480, 832, 3000, 1500, 600, 400, (3, 7), 6, 400),
        Size('full', 600, 800, 11206, 6978, 5532, 2900, (3, 8), 6, 2900),
    )
}


def get_size(size):
    """A Size from its name, or itself."""
    if isinstance(size, Size):
        return size
    if size not in SIZES:
        raise ValueError(f'size must be one of {", ".join(SIZES)}, got {size!r}')
    return SIZES[size]
