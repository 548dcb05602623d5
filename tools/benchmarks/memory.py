"""Times the update of the identity memory for one CUHK-SYSU batch, against a Python loop with one step per embedding.

    python tools/benchmarks/memory.py [--repeats 60]

A batch has 640 embeddings of D 256: 5 images, 8 persons per image, 16 RoIs per person. The memory has 5,532 identities and
a queue of 5,000. Both ways take turns in one run, so that other load on the machine slows both. Prints a table of median
milliseconds: with one thread and with all, with all persons labelled and with a fifth of them unlabelled.
"""

import argparse
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from mmps.evaluation.tables import markdown_table
from mmps.models import IdentityMemory

IMAGES, PERSONS, ROIS, DIMS, IDENTITIES, QUEUE = 5, 8, 16, 256, 5532, 5000


class LoopMemory:
    """The memory with the update as the field's implementations write it: a loop over the embeddings."""

    def __init__(self, momentum: float = 0.5):
        self.lut, self.queue = torch.zeros(IDENTITIES, DIMS), torch.zeros(QUEUE, DIMS)
        self.momentum, self.position = momentum, 0

    def update(self, embeddings: Tensor, person_ids: Tensor) -> None:
        for embedding, person_id in zip(embeddings, person_ids, strict=True):
            if person_id >= 0:
                self.lut[person_id] = self.momentum * self.lut[person_id] + (1 - self.momentum) * embedding
                self.lut[person_id] /= self.lut[person_id].norm()
            else:
                self.queue[self.position] = embedding
                self.position = (self.position + 1) % QUEUE


def random_batch(generator: torch.Generator, unlabelled: float) -> tuple[Tensor, Tensor]:
    """Returns embeddings (640, D) and person ids (640,). An image's RoIs are in random order, as a sampler gives them."""
    person_ids = torch.randperm(IDENTITIES, generator=generator)[: IMAGES * PERSONS]
    person_ids[torch.rand(len(person_ids), generator=generator) < unlabelled] = -1
    rois = person_ids.reshape(IMAGES, PERSONS).repeat_interleave(ROIS, 1)
    rois = torch.stack([image[torch.randperm(len(image), generator=generator)] for image in rois])
    return F.normalize(torch.randn(rois.numel(), DIMS, generator=generator)), rois.flatten()


def update_milliseconds(memory: IdentityMemory | LoopMemory, embeddings: Tensor, person_ids: Tensor) -> float:
    start = time.perf_counter()
    memory.update(embeddings, person_ids)
    return (time.perf_counter() - start) * 1000


def compare(repeats: int, unlabelled: float) -> tuple[float, float, float]:
    """Returns the median milliseconds of the module and of the loop, and the median of their ratio in each repeat."""
    generator = torch.Generator().manual_seed(0)
    module, loop = IdentityMemory(IDENTITIES, QUEUE, DIMS), LoopMemory()
    pairs = []
    for _ in range(repeats):
        batch = random_batch(generator, unlabelled)
        pairs.append((update_milliseconds(module, *batch), update_milliseconds(loop, *batch)))
    torch.testing.assert_close(module.lut, loop.lut, atol=1e-5, rtol=0)
    torch.testing.assert_close(module.queue, loop.queue)
    times = torch.tensor(pairs[repeats // 10 :])  # the first ones warm up
    module_median, loop_median = times.median(0).values.tolist()
    return module_median, loop_median, (times[:, 1] / times[:, 0]).median().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--repeats', type=int, default=60, help='updates per figure (%(default)s)')
    args = parser.parse_args()
    rows = []
    for threads in dict.fromkeys((1, torch.get_num_threads())):
        torch.set_num_threads(threads)
        for unlabelled in (0.0, 0.2):
            module, loop, ratio = compare(args.repeats, unlabelled)
            rows.append([str(threads), f'{unlabelled:.0%}', f'{module:.2f}', f'{loop:.2f}', f'{ratio:.1f}'])
    print(markdown_table(['threads', 'unlabelled', 'mmps, ms', 'loop, ms', 'times faster'], rows))


if __name__ == '__main__':
    main()
