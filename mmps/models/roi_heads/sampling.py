"""Selects the RoIs that train a RoI head. Shapes: N proposals of an image, K positive RoIs."""

from dataclasses import dataclass

import numpy as np
import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.utils import unpack_gt_instances
from mmdet.structures import SampleList
from mmdet.utils import InstanceList
from torch import Tensor

from mmps.models.assignment import assign, fits, most_sightings, sampled
from mmps.structures import person_boxes


@dataclass
class SampledRoIs:
    """The RoIs of one image that train a head, with the names of MMDetection's ``SamplingResult``.

    Attributes:
        pos_priors: (K, 4), the positives.
        neg_priors: The others.
        pos_assigned_gt_inds: (K,), index of the person of each positive.
        pos_gt_bboxes: (K, 4), box of that person.
        pos_gt_labels: (K,), its label.
        most_sightings: How often the most frequent identity of the batch occurs among its positives, at least.
    """

    pos_priors: Tensor
    neg_priors: Tensor
    pos_assigned_gt_inds: Tensor
    pos_gt_bboxes: Tensor
    pos_gt_labels: Tensor
    most_sightings: int | None = None

    @property
    def priors(self) -> Tensor:
        return torch.cat([self.pos_priors, self.neg_priors])


def sample_rois(head: StandardRoIHead, proposals: InstanceList, batch_data_samples: SampleList) -> list[SampledRoIs]:
    """Selects the RoIs that a head trains on, with its assigner and sampler. In each image the positives come first.

    The host waits for a GPU once, for the numbers of RoIs of all images, if the head has MMDetection's ``MaxIoUAssigner`` and
    ``RandomSampler``, as far as :func:`~mmps.models.assignment.fits` knows their options.
    """
    if not fits(head.bbox_assigner, head.bbox_sampler):
        return _sample_by_image(head, proposals, batch_data_samples)
    drawn = []
    for of_image, persons, sample in zip(proposals, person_boxes(batch_data_samples), batch_data_samples, strict=True):
        boxes = of_image.bboxes
        ignored = sample.ignored_instances.bboxes if 'ignored_instances' in sample else None
        assigned = assign(boxes, persons, head.bbox_assigner, ignored)
        if head.bbox_sampler.add_gt_as_proposals:
            boxes = torch.cat([persons, boxes])
            assigned = torch.cat([torch.arange(1, len(persons) + 1, device=assigned.device), assigned])
        chosen, taken, others, filled = sampled(assigned, head.bbox_sampler)
        person = (assigned[chosen] - 1).where(taken, -1)
        ids = sample.gt_instances.person_ids if 'person_ids' in sample.gt_instances else assigned.new_zeros(len(persons))
        ids = ids[person.clamp(min=0)].where(taken, -1) if len(persons) else person
        # Sorted, as MMDetection's; those that are not sampled come last.
        chosen, others = (each.where(mask, len(boxes)).sort().values for each, mask in ((chosen, taken), (others, filled)))
        drawn.append((boxes, persons, assigned, chosen, others, taken.sum(), filled.sum(), ids))
    *rest, positives, negatives, ids = zip(*drawn, strict=True)
    *counts, most = torch.stack([*positives, *negatives, most_sightings(torch.cat(ids))]).tolist()  # the wait
    samples = []
    for sample, boxes, persons, assigned, chosen, others, positive, negative in zip(
        batch_data_samples, *rest, counts[: len(drawn)], counts[len(drawn) :], strict=True
    ):
        chosen = chosen[:positive]
        person = assigned[chosen] - 1
        samples.append(
            SampledRoIs(
                boxes[chosen], boxes[others[:negative]], person, persons[person], sample.gt_instances.labels[person], most
            )
        )
    return samples


def _sample_by_image(head: StandardRoIHead, proposals: InstanceList, batch_data_samples: SampleList) -> list[SampledRoIs]:
    samples = []
    for of_image, gt, ignored in zip(proposals, *unpack_gt_instances(batch_data_samples)[:2], strict=True):
        of_image.priors = of_image.pop('bboxes')
        found = head.bbox_sampler.sample(head.bbox_assigner.assign(of_image, gt, ignored), of_image, gt)
        samples.append(
            SampledRoIs(
                found.pos_priors, found.neg_priors, found.pos_assigned_gt_inds, found.pos_gt_bboxes, found.pos_gt_labels
            )
        )
    return samples


def positives(samples: list[SampledRoIs]) -> Tensor:
    """Returns the indices of the positive RoIs among those of all images. The host knows their number, so it does not wait."""
    starts = np.cumsum([0, *(len(sample.priors) for sample in samples)])
    device = samples[0].priors.device
    return torch.cat(
        [
            torch.arange(start, start + len(sample.pos_priors), device=device)
            for start, sample in zip(starts.tolist(), samples, strict=False)
        ]
    )


def positive_ids(samples: list[SampledRoIs], batch_data_samples: SampleList) -> Tensor:
    """Returns the person_ids of the positive RoIs of all images."""
    return torch.cat(
        [
            each.gt_instances.person_ids[sample.pos_assigned_gt_inds]
            for sample, each in zip(samples, batch_data_samples, strict=True)
        ]
    )
