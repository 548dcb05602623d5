import numpy as np
import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.models.utils import unpack_gt_instances
from mmdet.structures import SampleList
from mmdet.utils import InstanceList
from torch import Tensor


def sample_rois(head: StandardRoIHead, proposals: InstanceList, batch_data_samples: SampleList) -> list[SamplingResult]:
    """Selects the RoIs that a head trains on, with its assigner and sampler. In each image the positives come first."""
    samples = []
    for of_image, gt, ignored in zip(proposals, *unpack_gt_instances(batch_data_samples)[:2], strict=True):
        of_image.priors = of_image.pop('bboxes')
        samples.append(head.bbox_sampler.sample(head.bbox_assigner.assign(of_image, gt, ignored), of_image, gt))
    return samples


def positives(samples: list[SamplingResult]) -> Tensor:
    """Returns the indices of the positive RoIs among those of all images. The host knows their number, so it does not wait."""
    starts = np.cumsum([0, *(len(sample.priors) for sample in samples)])
    device = samples[0].priors.device
    return torch.cat(
        [
            torch.arange(start, start + len(sample.pos_priors), device=device)
            for start, sample in zip(starts.tolist(), samples, strict=False)
        ]
    )


def positive_ids(samples: list[SamplingResult], batch_data_samples: SampleList) -> Tensor:
    """Returns the person_ids of the positive RoIs of all images."""
    return torch.cat(
        [
            each.gt_instances.person_ids[sample.pos_assigned_gt_inds]
            for sample, each in zip(samples, batch_data_samples, strict=True)
        ]
    )
