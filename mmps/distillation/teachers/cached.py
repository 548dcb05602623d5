from collections.abc import Sequence

import numpy as np
import torch
from mmdet.structures import SampleList
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
    """A lookup table (I, D) that checkpoints do not hold."""

    def __init__(self, lut: Tensor):
        super().__init__()
        self.register_buffer('lut', lut, persistent=False)

    @property
    def num_identities(self) -> int:
        return len(self.lut)


@MODELS.register_module()
class CachedTeacher(Teacher):
    """Stands in for a distillation's teacher: its embeddings come from a folder that tools/cache_teacher.py has written.

    They are computed from each training image alone, in float32. A teacher would also see the batch's padding.

    Args:
        path: The folder.
        checkpoint: The teacher's checkpoint, if it is to be checked that the embeddings are its.

    Raises:
        OSError, ValueError: The cache is missing, damaged or partial, or not of this checkpoint. One line.
    """

    def __init__(self, path: str, checkpoint: str | None = None):
        super().__init__()
        self.cache = TeacherCache(path)
        self.cache.require_complete()
        if checkpoint:
            self.cache.require(weights=weights_fingerprint(read_weights(checkpoint, 'checkpoint')))
        self.table = FixedTable(torch.from_numpy(self.cache.lut))
        self._chosen: list[tuple[int, int, slice]] = []  # flip, jitter, persons of each image

    @property
    def network(self) -> nn.Module:
        return self

    @property
    def memory(self) -> FixedTable:
        return self.table

    @property
    def extract_feat(self) -> None:
        # No AttributeError, which would only say that the method is not there, when a recorder asks for it.
        raise ValueError('a cached teacher has no feature maps: recorders may read embed and memory.lut only')

    def check(self, dataset: PersonSearchDataset) -> None:
        """Raises ValueError if the training set is not the one whose embeddings these are, or its images are made otherwise."""
        self.cache.require(transforms=repeatable_settings(dataset), data=fingerprint(dataset))

    def check_jitter(self, jitter: float) -> None:
        if jitter != self.cache.header.box_jitter:
            raise ValueError(
                f'PersonSearchDistill: box_jitter is {jitter}, but the cached teacher embedded boxes with box_jitter '
                f'{self.cache.header.box_jitter}: write a cache from this config'
            )

    def choose_boxes(self, samples: SampleList, jitter: float) -> list[Tensor]:
        """Returns the boxes of the batch's persons, moved by one of the cached jitters, drawn for each image.

        Args:
            samples: With img_id and, for a mirrored image, flip. ``gt_instances`` in the data set's order.
            jitter: The cache's own.

        Returns:
            list of (N_i, 4), x1 y1 x2 y2 in input-image pixels.

        Raises:
            ValueError: An image is not in the cache, or with another number of persons.
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

    def before_student(self, recorders: RecorderManager, images: Tensor, samples: SampleList, boxes: Boxes) -> None:
        with recorders:
            self.embed(samples, boxes.embedded)

    def embed(self, samples: SampleList, boxes: list[Tensor]) -> list[Tensor]:
        """Returns the embeddings of the boxes that the last call of :meth:`choose_boxes` gave for these samples.

        Returns:
            list of (N_i, D), float32, L2-normalized.
        """
        rows = _joined([self.cache.embeddings[chosen] for chosen in self._chosen])
        return list(_sent(rows, boxes[0].device).split([len(of_image) for of_image in boxes]))


def _joined(parts: Sequence[np.ndarray]) -> Tensor:
    """Read from the disk where they are not in memory yet."""
    return torch.from_numpy(np.concatenate(parts))


def _sent(values: Tensor, device: torch.device) -> Tensor:
    """To the device, without waiting for it."""
    if device.type == 'cuda':
        values = values.pin_memory()
    return values.to(device, non_blocking=True)
