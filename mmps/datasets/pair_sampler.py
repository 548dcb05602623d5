from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.dataset import DefaultSampler

from mmps.datasets.base import PersonSearchDataset
from mmps.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class PairSampler(DefaultSampler):
    """Samples images in pairs: in batches of even size, images 2k and 2k + 1 share a labelled identity.

    In each epoch half of the images, drawn at random, get as their partner a random image of one of their identities. An image
    that shares no identity with another is paired with itself. Seed and epoch decide, as in MMEngine's ``DefaultSampler``.

    Args:
        dataset: The training data set, fully loaded.
        **kwargs: Arguments of ``DefaultSampler``. With ``shuffle=False`` every epoch has the same pairs.
    """

    dataset: PersonSearchDataset

    def __init__(self, dataset: PersonSearchDataset, **kwargs: Any) -> None:
        super().__init__(dataset, **kwargs)
        self.num_pairs = -(-len(dataset) // (2 * self.world_size))  # of each rank
        self.num_samples = 2 * self.num_pairs
        images_of = defaultdict(list)
        for image in range(len(dataset)):
            for person_id in {each['person_id'] for each in dataset.get_data_info(image)['instances']} - {-1}:
                images_of[person_id].append(image)
        partners: list[list[list[int]]] = [[] for _ in range(len(dataset))]  # by image, one list per shared identity
        for images in images_of.values():
            if len(images) > 1:
                for image in images:
                    partners[image].append(images)
        self.partners = partners

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch if self.shuffle else 0])
        order = np.resize(random.permutation(len(self.dataset)), self.num_pairs * self.world_size)
        pairs = [(image, self._partner(image, random)) for image in order.tolist()]
        return iter([image for pair in pairs[self.rank :: self.world_size] for image in pair])

    def _partner(self, image: int, random: np.random.Generator) -> int:
        if not self.partners[image]:
            return image
        images = self.partners[image][random.integers(len(self.partners[image]))]
        place = random.integers(len(images) - 1)  # among the others
        return images[place + (place >= images.index(image))]
