"""Times the identity memory's update of one CUHK-SYSU batch against one Python step a person.

    python tools/benchmarks/memory.py [--repeats 60]

640 embeddings: 5 images, 8 persons each, 16 RoIs a person; D 256, 5,532 identities, a queue of 5,000; once with every
person labelled, once with a fifth of them without identity. Both ways take turns in one run, so that whatever else the
machine does falls on both.
"""

import argparse
import time

import torch
import torch.nn.functional as F

from mmps.models import IdentityMemory

IMAGES, PERSONS, ROIS, DIMS, IDENTITIES, QUEUE = 5, 8, 16, 256, 5532, 5000


class OneByOne:
    """The update as the field's implementations write it."""

    def __init__(self, momentum: float = 0.5):
        self.lut, self.queue = torch.zeros(IDENTITIES, DIMS), torch.zeros(QUEUE, DIMS)
        self.momentum, self.position = momentum, 0

    def update(self, embeddings: torch.Tensor, person_ids: torch.Tensor) -> None:
        for embedding, person_id in zip(embeddings, person_ids, strict=True):
            if person_id >= 0:
                self.lut[person_id] = self.momentum * self.lut[person_id] + (1 - self.momentum) * embedding
                self.lut[person_id] /= self.lut[person_id].norm()
            else:
                self.queue[self.position] = embedding
                self.position = (self.position + 1) % QUEUE


def batch(generator: torch.Generator, unlabelled: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(640, D) and (640,): an image's RoIs are in random order, as a sampler gives them."""
    person_ids = torch.randperm(IDENTITIES, generator=generator)[: IMAGES * PERSONS]
    person_ids[torch.rand(len(person_ids), generator=generator) < unlabelled] = -1
    rois = person_ids.reshape(IMAGES, PERSONS).repeat_interleave(ROIS, 1)
    rois = torch.stack([image[torch.randperm(len(image), generator=generator)] for image in rois])
    return F.normalize(torch.randn(rois.numel(), DIMS, generator=generator)), rois.flatten()


def milliseconds(memory, *persons: torch.Tensor) -> float:
    start = time.perf_counter()
    memory.update(*persons)
    return (time.perf_counter() - start) * 1000


def compare(repeats: int, unlabelled: float) -> tuple[float, float, float]:
    """Median milliseconds of the module and of the loop, and the median of their ratio, pair by pair."""
    generator = torch.Generator().manual_seed(0)
    ours, loop = IdentityMemory(IDENTITIES, QUEUE, DIMS), OneByOne()
    times = []
    for _ in range(repeats):
        persons = batch(generator, unlabelled)
        times.append((milliseconds(ours, *persons), milliseconds(loop, *persons)))
    torch.testing.assert_close(ours.lut, loop.lut, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.queue, loop.queue)
    times = torch.tensor(times[len(times) // 10 :])  # the first ones warm up
    return *times.median(0).values.tolist(), (times[:, 1] / times[:, 0]).median().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--repeats', type=int, default=60)
    args = parser.parse_args()
    default = torch.get_num_threads()
    for threads in dict.fromkeys((1, default)):
        torch.set_num_threads(threads)
        for unlabelled in (0.0, 0.2):
            module, loop, ratio = compare(args.repeats, unlabelled)
            print(
                f'{threads} thread{"s" * (threads > 1)}, {unlabelled:.0%} unlabelled: {module:.2f} ms, '
                f'one by one {loop:.2f} ms, ratio {ratio:.1f}'
            )


if __name__ == '__main__':
    main()
