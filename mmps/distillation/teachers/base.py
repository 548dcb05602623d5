from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn

from mmdet.structures import SampleList
from mmengine.model import BaseModel
from mmrazor.models.task_modules import RecorderManager
from torch import Tensor, nn

from mmps.datasets import PersonSearchDataset
from mmps.distillation.pairing import Level, levels_of
from mmps.distillation.recorders import Boxes
from mmps.structures import jitter_boxes, person_boxes


class Teacher(BaseModel):
    """Base class of teachers: a detector, embeddings on the disk, or the student itself.

    In every step a teacher fills the recorders once: from the images, in :meth:`record_from_images`, or from the student's
    features, in :meth:`record_from_student`. A subclass implements :attr:`network` and one of these two methods.

    Attributes:
        learns: Whether it is trained with the student. Then a checkpoint holds it.
    """

    learns = False

    @property
    @abstractmethod
    def network(self) -> BaseModel:
        """Returns the module whose methods and parts the recorders read."""

    @property
    def memory(self) -> nn.Module | None:
        """Returns the identity memory, with ``lut`` (I, D) and ``num_identities``, or None without a re-id branch."""
        return getattr(self.network, 'memory', None)

    def levels(self) -> list[Level]:
        """Returns the levels of the network's feature maps."""
        return levels_of(self.network)

    def check(self, dataset: PersonSearchDataset) -> None:
        """Raises ValueError if the teacher cannot teach on this training set."""

    def check_jitter(self, jitter: float) -> None:
        """Raises ValueError if the teacher cannot embed boxes with this jitter."""

    def choose_boxes(self, samples: SampleList, jitter: float) -> list[Tensor]:
        """Returns the jittered boxes of the batch's persons: one (N_i, 4) tensor per image, in input-image pixels."""
        return jitter_boxes(person_boxes(samples), jitter)

    def record_from_images(self, recorders: RecorderManager, images: Tensor, samples: SampleList, boxes: Boxes) -> None:
        """Fills the recorders from the images (B, 3, H, W), which the student's preprocessor made."""

    def watch_student(self) -> AbstractContextManager:
        """Returns the context in which the student's own losses are computed."""
        return nullcontext()

    def record_from_student(self, recorders: RecorderManager, feats: tuple[Tensor, ...], boxes: Boxes) -> dict[str, Tensor]:
        """Fills the recorders from the student's features. Returns the teacher's own losses, if it learns."""
        return {}

    def forward(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError('a teacher has no forward pass of its own: call record_from_images or record_from_student')
