from collections.abc import Sequence

import numpy as np
import torch
from mmdet.structures import SampleList
from mmengine.model import BaseModel
from mmrazor.models.task_modules import RecorderManager
from torch import Tensor, nn

from mmps.datasets import PersonSearchDataset
from mmps.datasets.fingerprint import fingerprint, repeatable_settings
from mmps.distillation.recorders import Boxes
from mmps.fileio.checkpoint import read_weights, weights_fingerprint
from mmps.registry import MODELS
from mmps.structures.persons import mirror_movements, move_edges, person_boxes

from .base import Teacher
from .cache_files import TeacherCache


class FixedTable(nn.Module):
    """Holds a lookup table (I, D), which checkpoints leave out."""

    lut: Tensor

    def __init__(self, lut: Tensor):
        super().__init__()
        self.register_buffer('lut', lut, persistent=False)

    @property
    def num_identities(self) -> int:
        return len(self.lut)


@MODELS.register_module()
class CachedTeacher(Teacher):
    """Replaces a teacher by its embeddings, which tools/cache_teacher.py has written to a folder.

    The embeddings were computed in float32 from each training image alone. A running teacher would also see the padding of
    the batch.

    Args:
        path: The folder.
        checkpoint: The teacher's checkpoint. If given, the embeddings must come from it.

    Raises:
        OSError, ValueError: The cache is missing, damaged, partial or of another checkpoint. The message is one line.
    """

    def __init__(self, path: str, checkpoint: str | None = None):
        super().__init__()
        self.cache = TeacherCache(path)
        self.cache.require_complete()
        if checkpoint:
            self.cache.require(weights=weights_fingerprint(read_weights(checkpoint, 'checkpoint')))
        self.table = FixedTable(torch.from_numpy(self.cache.lut))
        self._chosen: list[tuple[int, int, slice]] = []  # of each image: flip, jitter, persons

    @property
    def network(self) -> BaseModel:
        return self

    @property
    def memory(self) -> FixedTable:
        return self.table

    @property
    def extract_feat(self) -> None:
        # A ValueError, because a recorder turns an AttributeError into 'no such method'.
        raise ValueError('a cached teacher has no feature maps: recorders may read embed and memory.lut only')

    def check(self, dataset: PersonSearchDataset) -> None:
        """Raises ValueError if the embeddings are of another training set, or of another pipeline."""
        self.cache.require(transforms=repeatable_settings(dataset), data=fingerprint(dataset))

    def check_jitter(self, jitter: float) -> None:
        if jitter != self.cache.header.box_jitter:
            raise ValueError(
                f'PersonSearchDistill: box_jitter is {jitter}, but the cached teacher embedded boxes with box_jitter '
                f'{self.cache.header.box_jitter}: write a cache from this config'
            )

    def choose_boxes(self, samples: SampleList, jitter: float) -> list[Tensor]:
        """Returns the boxes of the batch's persons, moved by one of the cached jitters, which is drawn per image.

        Args:
            samples: They need img_id and, if the image is mirrored, flip. ``gt_instances`` are in the data set's order.
            jitter: Not used: the cache has its own, which :meth:`check_jitter` compares.

        Returns:
            list of (N_i, 4), x1 y1 x2 y2 in input-image pixels.

        Raises:
            ValueError: An image is not in the cache, or has another number of persons there.
        """
        boxes, persons = person_boxes(samples), [self.cache.persons(sample.img_id) for sample in samples]
        counts = [len(of_image) for of_image in boxes]
        for sample, count, rows in zip(samples, counts, persons, strict=True):
            if count != rows.stop - rows.start:
                raise ValueError(
                    f'{sample.get("img_path", f"img_id {sample.img_id}")}: found {count} persons, expected the '
                    f'{rows.stop - rows.start} of {self.cache.path}: a transform may have dropped some'
                )
        flips = [int(sample.get('flip', False)) for sample in samples]
        jitters = torch.randint(self.cache.header.jitters, (len(samples),)).tolist()
        self._chosen = list(zip(flips, jitters, persons, strict=True))
        movements = _joined([self.cache.movements[jitter, rows] for _, jitter, rows in self._chosen])
        mirrored = torch.tensor(flips, dtype=torch.bool).repeat_interleave(torch.tensor(counts))[:, None]
        movements = torch.where(mirrored, mirror_movements(movements), movements)
        together = torch.cat(boxes)
        return list(move_edges(together, _sent(movements, together.device)).split(counts))

    def record_from_images(self, recorders: RecorderManager, images: Tensor, samples: SampleList, boxes: Boxes) -> None:
        with recorders:
            self.embed(samples, boxes.to_embed)

    def embed(self, samples: SampleList, boxes: list[Tensor]) -> list[Tensor]:
        """Returns the embeddings of the boxes from the last call of :meth:`choose_boxes`, for the same samples.

        Returns:
            list of (N_i, D), float32, L2-normalized.
        """
        rows = _joined([self.cache.embeddings[chosen] for chosen in self._chosen])
        return list(_sent(rows, boxes[0].device).split([len(of_image) for of_image in boxes]))


def _joined(parts: Sequence[np.ndarray]) -> Tensor:
    """Joins arrays. Memory maps are read from the disk here."""
    return torch.from_numpy(np.concatenate(parts))


def _sent(values: Tensor, device: torch.device) -> Tensor:
    """Moves values to the device without waiting for it."""
    if device.type == 'cuda':
        values = values.pin_memory()
    return values.to(device, non_blocking=True)
