from contextlib import AbstractContextManager
from typing import NoReturn

import torch
from mmengine.model import BaseModel
from mmengine.utils import apply_to
from mmrazor.models.task_modules import RecorderManager
from torch import Tensor

from mmps.distillation.recorders import Boxes, MethodInputsRecorder
from mmps.fileio.checkpoint import load_exactly
from mmps.models.detectors import CropReIDHead
from mmps.models.memory import IdentityMemory
from mmps.models.roi_heads import PersonSearchRoIHead
from mmps.models.roi_heads.sampling import positive_ids

from .base import Teacher


class TeachingHead(Teacher):
    """A second re-id head teaches the student's and learns on (HKD, ACM MM 2023).

    In every step it gets the RoIs that the student's re-id head trains on, and the student's features, detached. So its
    gradients do not reach the student's features. It learns with its own re-id loss, which has its own identity memory.

    Args:
        network: The head, trained on crops. Its backbone and neck are dropped.
        student: A student with a RoI head that embeds.
        checkpoint: The checkpoint of ``network``. It must fit exactly.
        mutual: Whether the distillation losses train it too, as in the published code.

    Raises:
        FileNotFoundError: The checkpoint is missing.
        ValueError: The checkpoint is of another architecture, the network is no :class:`~mmps.models.detectors.CropReIDHead`,
            the student has no RoI head that embeds, or the heads pool different features.
    """

    learns = True

    def __init__(self, network: BaseModel, student: BaseModel, checkpoint: str | None = None, mutual: bool = True):
        super().__init__()
        theirs = getattr(getattr(student, 'roi_head', None), 'reid_head', None)
        if not isinstance(network, CropReIDHead):
            raise ValueError(f'the teacher is a {type(network).__name__}: a head that learns on (HKD) is a CropReIDHead')
        if theirs is None:
            raise ValueError(f'the student is a {type(student).__name__} without a RoI head that embeds, which HKD needs')
        ours, wanted = pooled(network.roi_head), pooled(theirs)
        if ours != wanted:
            raise ValueError(f'the teaching head pools {ours}, the head of the student {wanted}: they must agree')
        if checkpoint:
            load_exactly(network, checkpoint, 'teacher_ckpt')
            for module in network.modules():
                module._is_init = True  # so the runner's weight initialization skips it
        self.roi_head, self.reid_loss = network.roi_head, network.reid_loss  # as the detectors call them
        self.mutual = mutual
        self.rois = MethodInputsRecorder('loss_from_rois')
        self.rois.initialize(theirs)

    @property
    def network(self) -> BaseModel:
        return self

    @property
    def memory(self) -> IdentityMemory:
        return self.reid_loss.memory

    def levels(self) -> NoReturn:
        raise ValueError('a teaching head embeds RoIs only: to compare feature maps, name another teacher')

    def watch_student(self) -> AbstractContextManager:
        return self.rois

    def record_from_student(self, recorders: RecorderManager, feats: tuple[Tensor, ...], boxes: Boxes) -> dict[str, Tensor]:
        if not self.rois.data_buffer:
            raise ValueError(
                "a teaching head reads the RoIs of the student's own losses, but there are none: set "
                'calculate_student_loss=True; a copy of the model cannot train'
            )
        x, samples, batch = self.rois.get_record_data()
        self.rois.reset_data_buffer()
        with recorders:
            embeddings = self.roi_head.embed_positives(tuple(level.detach() for level in x), samples)
            loss = self.reid_loss(embeddings, positive_ids(samples, batch), most_sightings=samples[0].most_sightings)
        if not self.mutual:
            for recorder in recorders.recorders.values():
                recorder.data_buffer[:] = apply_to(recorder.data_buffer, torch.is_tensor, Tensor.detach)
        return dict(loss_reid=loss)


def pooled(head: PersonSearchRoIHead) -> str:
    """Describes the features that a RoI head embeds."""
    extractor = head.embedding_roi_extractor
    return f'{extractor.out_channels} channels of the strides {extractor.featmap_strides} with {extractor.roi_layers[0]}'
