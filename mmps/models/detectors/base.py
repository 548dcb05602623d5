from abc import abstractmethod
from typing import Any

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.structures import DetDataSample, SampleList
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import InstanceList
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmps.models.memory import IdentityMemory


class PersonSearchDetector(BaseDetector):
    """Base class of all person-search detectors: an MMDetection detector that also embeds boxes.

    Inherit it before MMDetection's detector class. One pass over an image gives the detections and all embeddings.
    Shapes: B images, L levels, A anchors per point, N_i boxes of image i, P = sum of N_i, D embedding size. Boxes are
    x1 y1 x2 y2 in input-image pixels. ``feats`` is the output of ``extract_feat``.

    A subclass implements these members. Python refuses to instantiate a class that lacks one (``TypeError``, which names the
    class and the missing members). Only distillation asks for ``dense_head``, ``run_dense_head`` and ``refine_boxes``: a
    detector without one of these sets it to None.

    ======================================== =====================================================================
    ``extract_feat(images)``                 (B, 3, H, W) -> tuple of L maps (B, C_i, H_i, W_i), the finest first
    ``loss_from_feats(feats, samples)``      dict of named losses, scalars
    ``detect(feats, samples)``               per image: bboxes (N, 4), scores (N,), labels (N,), maybe embeddings (N, D)
    ``embed_boxes(feats, boxes)``            list of (N_i, 4) -> list of (N_i, D), L2-normalized
    ``refine_boxes(feats, boxes)``           list of (N_i, 4) -> person logits (P,) and refined boxes (P, 4)
    ``dense_head``                           the module that predicts at every location
    ``run_dense_head(feats)``                its outputs: first the person logits, per level (B, A, H_i, W_i)
    ``memory``                               the :class:`~mmps.models.memory.IdentityMemory`
    ``_forward(images, samples)``            tuple of raw outputs, for MMDetection's mode 'tensor'
    ======================================== =====================================================================

    Every detector inherits ``loss``, ``predict`` and ``embed``.
    """

    @property
    @abstractmethod
    def memory(self) -> IdentityMemory:
        """Returns the identity memory."""

    @property
    @abstractmethod
    def dense_head(self) -> nn.Module:
        """Returns the head that predicts at every location, which is the RPN of a two-stage detector."""

    @abstractmethod
    def run_dense_head(self, feats: tuple[Tensor, ...]) -> tuple[list[Tensor], ...]:
        """Returns the outputs of the dense head. The first is the person logits, one (B, A, H_i, W_i) tensor per level."""

    @abstractmethod
    def loss_from_feats(self, feats: tuple[Tensor, ...], batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Computes the losses from given features. A distiller uses the same features, so they are computed only once."""

    @abstractmethod
    def detect(self, feats: tuple[Tensor, ...], batch_data_samples: SampleList) -> InstanceList:
        """Detects persons: bboxes in input-image pixels, scores, labels and, if the head gives them, embeddings."""

    @abstractmethod
    def embed_boxes(self, feats: tuple[Tensor, ...], boxes: list[Tensor]) -> list[Tensor]:
        """Does the work of :meth:`embed`. The boxes are already checked."""

    def embed_in_place(self, feats: tuple[Tensor, ...], boxes: list[Tensor]) -> list[Tensor]:
        """Does the work of :meth:`embed` with ``in_place``. A detector that embeds boxes elsewhere overrides it."""
        return self.embed_boxes(feats, boxes)

    def embed(self, feats: tuple[Tensor, ...], boxes: list[Tensor], in_place: bool = False) -> list[Tensor]:
        """Embeds given boxes.

        Args:
            feats: The output of :meth:`extract_feat`.
            boxes: One (N_i, 4) tensor per image, x1 y1 x2 y2 in input-image pixels; N_i may be 0.
            in_place: Embed each box where it is. As published, AlignPS embeds a box at the detection that overlaps it most,
                which may be another person's. Distillation needs the same person in both models.

        Returns:
            list of (N_i, D), L2-normalized.

        Raises:
            ValueError: The features have another number of images, a tensor is not (N, 4), or a box has no area. The area
                is checked only for boxes on the CPU: on a GPU the check would make the host wait.
        """
        check_boxes(boxes, len(feats[0]))
        return self.embed_in_place(feats, boxes) if in_place else self.embed_boxes(feats, boxes)

    @abstractmethod
    def refine_boxes(self, feats: tuple[Tensor, ...], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Classifies and regresses given boxes. A distiller compares the results of teacher and student.

        Args:
            feats: The output of :meth:`extract_feat`.
            boxes: One (N_i, 4) tensor per image, x1 y1 x2 y2 in input-image pixels; N_i may be 0.

        Returns:
            Person logits (P,) and refined boxes (P, 4), image by image; P is the sum of N_i. The boxes are not clipped.
        """

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Computes the named losses of images (B, 3, H, W)."""
        return self.loss_from_feats(self.extract_feat(batch_inputs), batch_data_samples)

    def predict(self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True) -> SampleList:
        """Detects persons and embeds them and all given boxes, in one pass over the images.

        Returns:
            The samples with ``pred_instances``: bboxes (N, 4), scores (N,), labels (N,), embeddings (N, D). If a sample has
            ``query_instances`` or ``gt_instances`` with boxes, they get ``embeddings`` too. Predicted boxes are in
            original-image pixels if ``rescale`` is set. Given boxes of test samples are always in those pixels.
        """
        feats = self.extract_feat(batch_inputs)
        results = self.detect(feats, batch_data_samples)
        scales = [
            result.bboxes.new_tensor(sample.scale_factor).repeat(2)
            for result, sample in zip(results, batch_data_samples, strict=True)
        ]
        given = [_instances_with_boxes(sample) for sample in batch_data_samples]
        boxes = [
            [get_box_tensor(instances.bboxes) * scale for instances in of_sample]
            for of_sample, scale in zip(given, scales, strict=True)
        ]
        check_boxes(
            [torch.cat([result.bboxes[:0], *of_sample]) for result, of_sample in zip(results, boxes, strict=True)],
            len(feats[0]),
        )
        self.embed_remaining(feats, results, given, boxes)
        if rescale:
            for result, scale in zip(results, scales, strict=True):
                result.bboxes = result.bboxes / scale
        return self.add_pred_to_datasample(batch_data_samples, results)

    def embed_remaining(
        self, feats: tuple[Tensor, ...], results: InstanceList, given: list[list[InstanceData]], boxes: list[list[Tensor]]
    ) -> None:
        """Adds the missing embeddings to detections and given instances, with one call of :meth:`embed_boxes`.

        Args:
            results: The detections of each image.
            given: For each image, the instances with given boxes.
            boxes: The boxes of ``given`` in input-image pixels.
        """
        wanted = [
            ([] if 'embeddings' in result else [result]) + of_sample for result, of_sample in zip(results, given, strict=True)
        ]
        if not any(wanted):
            return
        embeddings = self.embed_boxes(
            feats,
            [
                torch.cat([result.bboxes[:0], *([] if 'embeddings' in result else [result.bboxes]), *of_sample])
                for result, of_sample in zip(results, boxes, strict=True)
            ],
        )
        for instances, embedding in zip(wanted, embeddings, strict=True):
            for each, part in zip(instances, embedding.split([len(each) for each in instances]), strict=True):
                each.embeddings = part

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        # The checkpoint of a distilled student also holds the state of its distiller.
        for key in [key for key in state_dict if key.startswith(f'{prefix}distiller.')]:
            del state_dict[key]
        super()._load_from_state_dict(state_dict, prefix, *args)


def check_boxes(boxes: list[Tensor], num_images: int) -> None:
    """Raises the errors of :meth:`PersonSearchDetector.embed`."""
    if len(boxes) != num_images:
        raise ValueError(
            f'embed: {len(boxes)} tensors of boxes for the features of {num_images} images: '
            'expected one (N, 4) tensor per image, N = 0 for an image without boxes'
        )
    for image, of_image in enumerate(boxes):
        if of_image.ndim != 2 or of_image.shape[1] != 4:
            raise ValueError(f'embed: the boxes of image {image} have shape {tuple(of_image.shape)}: expected (N, 4)')
        if of_image.device.type == 'cpu':
            has_area = (of_image[:, 2:] > of_image[:, :2]).all(1)  # False for NaN
            if not has_area.all():
                index = has_area.tolist().index(False)
                raise ValueError(
                    f'embed: box {index} of image {image} is empty: {of_image[index].tolist()}, expected x1 < x2 and y1 < y2'
                )


def _instances_with_boxes(sample: DetDataSample) -> list[InstanceData]:
    """Returns those of the sample's queries and annotated persons that have boxes."""
    instances = [sample.get(name) for name in ('query_instances', 'gt_instances') if name in sample]
    return [each for each in instances if 'bboxes' in each]
