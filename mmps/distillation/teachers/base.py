from typing import NoReturn

from mmdet.structures import SampleList
from mmengine.model import BaseModel
from mmrazor.models.task_modules import RecorderManager
from torch import Tensor, nn

from mmps.datasets import PersonSearchDataset
from mmps.distillation.pairing import Level, levels_of
from mmps.distillation.recorders import Boxes
from mmps.structures import jitter_boxes, person_boxes


class Teacher(BaseModel):
    """Who teaches: a detector, embeddings on the disk, or the student itself.

    In every step a teacher fills the recorders once: in :meth:`before_student`, from the images, or in :meth:`after_student`,
    from the student's features. A subclass implements one of the two.

    Attributes:
        network: The module whose methods and parts the recorders read.
    """

    network: nn.Module

    @property
    def memory(self) -> nn.Module | None:
        """The identity memory, with ``lut`` (I, D) and ``num_identities``. None if the network has no re-id branch."""
        return getattr(self.network, 'memory', None)

    def levels(self) -> list[Level]:
        """Returns the levels of the feature maps."""
        return levels_of(self.network)

    def check(self, dataset: PersonSearchDataset) -> None:
        """Raises ValueError if the teacher cannot teach on this training set."""

    def check_jitter(self, jitter: float) -> None:
        """Raises ValueError if the teacher cannot answer for boxes that move so far."""

    def choose_boxes(self, samples: SampleList, jitter: float) -> list[Tensor]:
        """Returns the boxes of the batch's persons, jittered: one (N_i, 4) tensor an image, input-image pixels."""
        return jitter_boxes(person_boxes(samples), jitter)

    def before_student(self, recorders: RecorderManager, images: Tensor, samples: SampleList, boxes: Boxes) -> None:
        """Fills the recorders from the images (B, 3, H, W), as the student's preprocessor made them."""

    def after_student(self, recorders: RecorderManager, feats: tuple[Tensor, ...], boxes: Boxes) -> None:
        """Fills the recorders from the student's features."""

    def forward(self, *args, **kwargs) -> NoReturn:
        raise NotImplementedError('a teacher is asked by before_student and after_student')
