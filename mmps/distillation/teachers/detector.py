from contextlib import nullcontext, suppress
from types import MethodType
from typing import Any

import torch
from mmdet.structures import SampleList
from mmengine.model import BaseModel, ImgDataPreprocessor
from mmrazor.models.task_modules import RecorderManager
from torch import Tensor

from mmps.datasets import PersonSearchDataset
from mmps.datasets.fingerprint import repeatable_settings
from mmps.distillation.recorders import Boxes, reads, run_recorded
from mmps.fileio.checkpoint import load_exactly

from .base import Teacher
from .image_conversion import ImageConversion
from .kept_maps import KeptMaps


class DetectorTeacher(Teacher):
    """A trained detector teaches. In evaluation mode, it runs its feature extractor and the methods that recorders read.

    Args:
        network: The detector, or a re-id network on crops.
        preprocessor: The student's preprocessor. Its images are converted to the teacher's normalization.
        checkpoint: The detector's checkpoint. It must fit the detector exactly.
        autocast: The type to compute in, 'float16' or 'bfloat16'. None = as the student.
        channels_last: Whether feature maps are in channels-last memory, which is faster for convolutions.
        compiled: Whether backbone, neck and re-id network go through ``torch.compile``.
        kept_maps: How many GiB of its feature maps are kept in memory, where the images come again: on the CPU, in trainings
            whose pipeline changes an image only by mirroring it.

    Raises:
        FileNotFoundError: The checkpoint is missing.
        ValueError: The checkpoint is of another architecture, or ``autocast`` is another type.
    """

    def __init__(
        self,
        network: BaseModel,
        preprocessor: ImgDataPreprocessor,
        checkpoint: str | None = None,
        autocast: str | None = None,
        channels_last: bool = True,
        compiled: bool = False,
        kept_maps: float = 2,
    ):
        super().__init__()
        if autocast not in (None, 'float16', 'bfloat16'):
            raise ValueError(f"PersonSearchDistill: teacher_autocast is {autocast!r}: expected 'float16', 'bfloat16' or None")
        self.detector = network
        self.convert = ImageConversion(preprocessor, network.data_preprocessor)
        self.dtype = getattr(torch, autocast) if autocast else None
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.kept_maps = KeptMaps(kept_maps * 2**30)
        self.images_repeat = False
        network.extract_feat = MethodType(self.kept_maps.around(type(network).extract_feat), network)
        if checkpoint:
            load_exactly(network, checkpoint, 'teacher_ckpt')
            for module in self.modules():
                module._is_init = True  # so the runner's weight initialization skips it
        self.to(memory_format=self.memory_format)
        if compiled:
            for name, part in network.named_children():
                if name in ('backbone', 'neck', 'reid'):
                    part.compile()
        self.eval()

    @property
    def network(self) -> BaseModel:
        return self.detector

    def check(self, dataset: PersonSearchDataset) -> None:
        with suppress(ValueError):  # of a pipeline that makes another image each time
            repeatable_settings(dataset)
            self.images_repeat = hasattr(self.network, 'backbone')

    def record_from_images(self, recorders: RecorderManager, images: Tensor, samples: SampleList, boxes: Boxes) -> None:
        reads_within = reads(recorders, 'backbone') or reads(recorders, 'neck')
        if self.images_repeat and images.device.type == 'cpu' and not reads_within:
            self.kept_maps.images = [(sample.img_id, bool(sample.get('flip')), images.shape[2:]) for sample in samples]
        images = self.convert(images, samples).contiguous(memory_format=self.memory_format)
        autocast = torch.autocast(images.device.type, self.dtype) if self.dtype else nullcontext()
        with recorders, autocast:
            run_recorded(self.network, recorders, self.network.extract_feat(images), boxes)
        self.kept_maps.images = None
        if self.dtype or self.memory_format == torch.channels_last:
            for recorder in recorders.recorders.values():  # some losses accept only float32 and the default layout
                recorder.data_buffer[:] = plain(recorder.data_buffer)


def plain(record: Any) -> Any:
    """Returns the same record with its floating-point tensors in float32 and all tensors in the default memory layout."""
    if isinstance(record, Tensor):
        return (record.float() if record.is_floating_point() else record).contiguous()
    if isinstance(record, dict):
        return {key: plain(value) for key, value in record.items()}
    return type(record)(map(plain, record)) if isinstance(record, list | tuple) else record
