from abc import abstractmethod

import torch
from mmdet.structures import DetDataSample, SampleList
from mmdet.utils import InstanceList
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmps.models.memory import IdentityMemory


class PersonSearchDetector:
    """What makes an MMDetection detector one of person search, to be inherited beside its class.

    A subclass says where its memory is, what its losses from features are, how it detects and how it embeds given boxes;
    here is what all of them share: one pass over an image gives its detections and the embeddings of all boxes in it.
    """

    @property
    @abstractmethod
    def memory(self) -> IdentityMemory:
        """The identity memory."""

    @property
    @abstractmethod
    def dense_head(self) -> nn.Module:
        """The head that looks everywhere: the RPN of a two-stage detector."""

    @abstractmethod
    def run_dense_head(self, feats: tuple[Tensor, ...]) -> tuple[list[Tensor], ...]:
        """What the dense head returns for these features: first the person logits, (B, A, H_i, W_i) a level."""

    @abstractmethod
    def loss_from_feats(self, feats: tuple[Tensor, ...], batch_data_samples: SampleList) -> dict[str, Tensor]:
        """The losses from features that are already there: a distiller needs them too, and computes them once."""

    @abstractmethod
    def detect(self, feats: tuple[Tensor, ...], batch_data_samples: SampleList) -> InstanceList:
        """Detections in input-image pixels: bboxes, scores, labels and, where they come with the detection, embeddings."""

    @abstractmethod
    def embed_boxes(self, feats: tuple[Tensor, ...], boxes: list[Tensor]) -> list[Tensor]:
        """What :meth:`embed` does, with boxes that are in order."""

    def embed(self, feats: tuple[Tensor, ...], boxes: list[Tensor]) -> list[Tensor]:
        """The embeddings of given boxes.

        Args:
            feats: What :meth:`extract_feat` returned.
            boxes: One (N_i, 4) tensor an image, x1 y1 x2 y2 in input-image pixels; N_i may be 0.

        Returns:
            list of (N_i, D), L2-normalized.

        Raises:
            ValueError: Another number of images than the features have, no (N, 4) tensor, or a box without an area (which
                is looked for on the CPU only: a GPU would have to be waited for).
        """
        check_boxes(boxes, len(feats[0]))
        return self.embed_boxes(feats, boxes)

    @abstractmethod
    def refine_boxes(self, feats: tuple[Tensor, ...], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """What the detector says of given boxes: is there a person, and where exactly? A distiller asks both models.

        Args:
            feats: What :meth:`extract_feat` returned.
            boxes: One (N_i, 4) tensor an image, x1 y1 x2 y2 in input-image pixels; N_i may be 0.

        Returns:
            Person logits (P,) and refined boxes (P, 4), not clipped to the image; P the sum of N_i, image by image.
        """

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """(B, 3, H, W) images and their samples -> named losses."""
        return self.loss_from_feats(self.extract_feat(batch_inputs), batch_data_samples)

    def predict(self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True) -> SampleList:
        """Detections with embeddings, and the embeddings of given boxes, from one pass over the images.

        Returns:
            The samples with ``pred_instances`` (bboxes (N, 4), scores (N,), labels (N,), embeddings (N, D)) and, where
            there are ``query_instances`` or ``gt_instances`` with boxes, their ``embeddings``. Boxes are in
            original-image pixels if ``rescale``, as those of queries and of annotated persons always are in a test.
        """
        feats = self.extract_feat(batch_inputs)
        results = self.detect(feats, batch_data_samples)
        scales = [
            result.bboxes.new_tensor(sample.scale_factor).repeat(2)
            for result, sample in zip(results, batch_data_samples, strict=True)
        ]
        given = [_instances_with_boxes(sample) for sample in batch_data_samples]
        boxes = [
            [plain(instances.bboxes) * scale for instances in of_sample] for of_sample, scale in zip(given, scales, strict=True)
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
        """Gives embeddings to all that have none yet, from one call of :meth:`embed_boxes`.

        Args:
            results: The detections of each image.
            given: Of each image the instances whose boxes were given.
            boxes: Their boxes in input-image pixels.
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

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        # A distilled student's checkpoint also holds what its distillation needs to be resumed.
        for key in [key for key in state_dict if key.startswith(f'{prefix}distiller.')]:
            del state_dict[key]
        super()._load_from_state_dict(state_dict, prefix, *args)


def check_boxes(boxes: list[Tensor], num_images: int) -> None:
    if len(boxes) != num_images:
        raise ValueError(
            f'embed: {len(boxes)} tensors of boxes for the features of {num_images} images: '
            'expected one (N, 4) tensor an image, N = 0 where it has none'
        )
    for image, of_image in enumerate(boxes):
        if of_image.ndim != 2 or of_image.shape[1] != 4:
            raise ValueError(f'embed: the boxes of image {image} have shape {tuple(of_image.shape)}: expected (N, 4)')
        if of_image.device.type == 'cpu':
            has_area = (of_image[:, 2:] > of_image[:, :2]).all(1)  # not so for NaN
            if not has_area.all():
                index = has_area.tolist().index(False)
                raise ValueError(
                    f'embed: box {index} of image {image} is empty: {of_image[index].tolist()}, expected x1 < x2 and y1 < y2'
                )


def plain(boxes) -> Tensor:
    return getattr(boxes, 'tensor', boxes)


def _instances_with_boxes(sample: DetDataSample) -> list[InstanceData]:
    """The boxes that a test sample carries: of queries, of annotated persons, of neither."""
    instances = [sample.get(name) for name in ('query_instances', 'gt_instances') if name in sample]
    return [each for each in instances if 'bboxes' in each]
