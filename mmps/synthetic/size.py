"""How many scenes, people and cameras a SynthPS data set has."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """The counts of one data set.

    Args:
        name: Its name.
        height: Height of a scene, in pixels.
        width: Width of a scene, in pixels.
        train_scenes: Training scenes.
        test_scenes: Test scenes (CUHK-SYSU's pool).
        train_ids: Labelled identities in the training scenes.
        test_ids: Labelled identities in the test scenes, none of whom is in the training scenes.
        persons: Fewest and most people per scene. Unlabelled people are left out where there is no room for them.
        cameras: Cameras. Each looks at another place. PRW's layout and the classic style have at most 6.
        queries: Queries, at most one per test sighting. An identity is asked for again only after all others were.

    Raises:
        ValueError: If `cameras` or `persons` is out of range.
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

    def __post_init__(self) -> None:
        if self.cameras < 1:
            raise ValueError(f'size {self.name}: cameras must be 1 or more, got {self.cameras}')
        if not 1 <= self.persons[0] <= self.persons[1]:
            raise ValueError(f'size {self.name}: persons must be (fewest, most) with 1 <= fewest <= most, got {self.persons}')
        object.__setattr__(self, 'persons', tuple(self.persons))


SIZES = {
    size.name: size
    for size in (
        Size('tiny', 128, 224, 24, 16, 10, 8, (2, 4), 3, 8),
        Size('mini', 192, 336, 400, 600, 80, 300, (4, 7), 3, 300),
        Size('small', 480, 832, 3000, 1500, 600, 400, (3, 7), 6, 400),
        Size(
            'photo', 432, 768, 2400, 200, 800, 150, (1, 25), 600, 200
        ),  # in the varied style, for models meant for photographs
        Size('full', 600, 800, 11206, 6978, 5532, 2900, (3, 8), 6, 2900),
    )
}


def get_size(size: str | Size) -> Size:
    """Returns the Size with this name. A Size is returned as it is.

    Raises:
        ValueError: If there is no size with this name.
    """
    if isinstance(size, Size):
        return size
    if size not in SIZES:
        raise ValueError(f'size must be one of {", ".join(SIZES)}, got {size!r}')
    return SIZES[size]
