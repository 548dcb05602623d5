from contextlib import nullcontext
from typing import Any

import torch
from mmdet.structures import SampleList
from mmengine.model import BaseModel, ImgDataPreprocessor
from mmrazor.models.task_modules import RecorderManager
from torch import Tensor

from mmps.distillation.recorders import Boxes, run_recorded
from mmps.fileio.checkpoint import load_exactly

from .base import Teacher
from .image_conversion import ImageConversion


class DetectorTeacher(Teacher):
    """A trained detector teaches. It runs its feature extractor and what the recorders read, in evaluation mode.

    Args:
        network: The detector, or a re-id network on crops.
        preprocessor: The student's. Its images are converted to the teacher's normalization.
        checkpoint: The detector's checkpoint. It must fit the detector exactly.
        autocast: 'float16' or 'bfloat16': the type to compute in. None = as the student.
        channels_last: Keeps feature maps in channels-last memory, which is faster for convolutions.
        compiled: Runs backbone and neck through ``torch.compile``.

    Raises:
        FileNotFoundError: The checkpoint is missing.
        ValueError: The checkpoint is of another architecture; ``autocast`` is another word.
    """

    network: BaseModel

    def __init__(
        self,
        network: BaseModel,
        preprocessor: ImgDataPreprocessor,
        checkpoint: str | None = None,
        autocast: str | None = None,
        channels_last: bool = True,
        compiled: bool = False,
    ):
        super().__init__()
        if autocast not in (None, 'float16', 'bfloat16'):
            raise ValueError(f"PersonSearchDistill: teacher_autocast is {autocast!r}: expected 'float16', 'bfloat16' or None")
        self.network = network
        self.convert = ImageConversion(preprocessor, network.data_preprocessor)
        self.dtype = getattr(torch, autocast) if autocast else None
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        if checkpoint:
            load_exactly(network, checkpoint, 'teacher_ckpt')
            for module in self.modules():
                module._is_init = True  # the runner's weight initialization must not touch it
        self.to(memory_format=self.memory_format)
        if compiled:
            for name, part in network.named_children():
                if name in ('backbone', 'neck', 'reid'):
                    part.compile()
        self.eval()

    def before_student(self, recorders: RecorderManager, images: Tensor, samples: SampleList, boxes: Boxes) -> None:
        images = self.convert(images, samples).contiguous(memory_format=self.memory_format)
        autocast = torch.autocast(images.device.type, self.dtype) if self.dtype else nullcontext()
        with recorders, autocast:
            run_recorded(self.network, recorders, self.network.extract_feat(images), boxes)
        if self.dtype or self.memory_format == torch.channels_last:
            for recorder in recorders.recorders.values():  # not every loss takes another type or memory layout
                recorder.data_buffer[:] = plain(recorder.data_buffer)


def plain(record: Any) -> Any:
    """Returns the same record with half-precision tensors in float32 and every tensor in the default memory layout."""
    if isinstance(record, Tensor):
        return (record.float() if record.is_floating_point() else record).contiguous()
    if isinstance(record, dict):
        return {key: plain(value) for key, value in record.items()}
    return type(record)(map(plain, record)) if isinstance(record, list | tuple) else record
