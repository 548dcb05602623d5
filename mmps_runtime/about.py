"""What an exported file says of its model."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

KEY = 'mmps'  # of the metadata in the file
KIND, FORMAT = 'person search', 1
INPUTS = ('images', 'sizes', 'given_boxes')
OUTPUTS = ('boxes', 'scores', 'embeddings', 'counts', 'given_embeddings')


class ModelFileError(ValueError):
    """A file is no exported model, or none that can be run here."""


@dataclass(frozen=True)
class About:
    """What an exported file says of its model.

    Attributes:
        model: The detector's class, and that of its RoI head if it has one.
        persons: K, how many persons of an image are found at most.
        embed_dims: D, the size of an embedding.
        size: Height and width of the input, or None if it may have any.
        scale: Long and short side within which an image is resized, where the input may have any size.
        divisor: Height and width of the input are multiples of it.
        score_thr: Persons of a lower confidence are usually not kept.
        thresholds: Thresholds in the graph, by name.
        fingerprint: Of the model whose embeddings compare with these, as galleries keep it.
        precision: 'float32', 'float16' (the weights only) or 'int8'.
        version: Of mmps, which wrote the file.
    """

    model: str
    persons: int
    embed_dims: int
    size: tuple[int, int] | None
    scale: tuple[int, int]
    divisor: int
    score_thr: float
    thresholds: Mapping[str, float]
    fingerprint: str
    precision: str
    version: str

    def to_text(self) -> str:
        """Returns the text that the file holds under :data:`KEY`."""
        return json.dumps(dict(kind=KIND, format=FORMAT, **asdict(self)))

    @classmethod
    def from_text(cls, text: str | None, path: str) -> 'About':
        """Reads the text.

        Raises:
            ModelFileError: It is missing, of another kind, or damaged. One line.
        """
        if text is None:
            raise ModelFileError(f'{path}: no model that mmps exported: the file has no metadata {KEY!r}')
        try:
            values: dict[str, Any] = dict(json.loads(text))
            kind, version = values.pop('kind', None), values.pop('format', None)
            if (kind, version) != (KIND, FORMAT):
                raise ModelFileError(
                    f'{path}: expected a graph for {KIND} of format {FORMAT}, got {kind!r} of format {version!r}: '
                    'export the model again, or use the mmps_runtime of that version'
                )
            names = {field.name for field in fields(cls)}
            if set(values) != names:
                raise ModelFileError(
                    f'{path}: the metadata differ from those of format {FORMAT}: {sorted(set(values) ^ names)}'
                )
            values['size'] = None if values['size'] is None else (int(values['size'][0]), int(values['size'][1]))
            values['scale'] = (int(values['scale'][0]), int(values['scale'][1]))
            about = cls(**values)
            if min(about.persons, about.embed_dims, about.divisor, *about.scale, *(about.size or (1,))) < 1:
                raise ValueError
            return about
        except (ValueError, TypeError, LookupError) as error:
            if isinstance(error, ModelFileError):
                raise
            raise ModelFileError(f'{path}: the metadata {KEY!r} are damaged') from error

    def check_shapes(self, shapes: Mapping[str, tuple[int | None, ...]], path: str) -> None:
        """Compares the metadata with the shapes of the graph's outputs, in which None stands for any size.

        Raises:
            ModelFileError: They differ. One line.
        """
        wanted = {
            'boxes': (None, self.persons, 4),
            'scores': (None, self.persons),
            'embeddings': (None, self.persons, self.embed_dims),
            'counts': (None,),
            'given_embeddings': (None, None, self.embed_dims),
        }
        for name, shape in wanted.items():
            if name not in shapes:
                raise ModelFileError(f'{path}: the graph has no output {name!r}: it has {sorted(shapes)}')
            found = shapes[name]
            fits = len(found) == len(shape) and all(a is None or b is None or a == b for a, b in zip(found, shape, strict=True))
            if not fits:
                raise ModelFileError(
                    f'{path}: the metadata say {self.persons} persons with embeddings of {self.embed_dims} numbers, and the '
                    f"graph's {name} have the shape {found}"
                )
