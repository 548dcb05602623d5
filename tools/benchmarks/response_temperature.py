"""Compares the temperatures of the response loss on SynthPS with different numbers of identities.

    python tools/benchmarks/response_temperature.py CONFIG CHECKPOINT [--identities 80 600]

The teacher, trained on SynthPS mini, embeds the labelled persons of a drawn training set. Its table is their means. Prints the
mean cosine of a person to the own row. For each temperature it prints the mean probability of the own identity, and the
perplexity: over how many identities a uniform answer would be as uncertain.
"""

import argparse
import tempfile
from dataclasses import replace

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import Tensor

from mmps.distillation.lookup_table import training_images
from mmps.distillation.losses.embedding import temperature_of
from mmps.evaluation.tables import markdown_table
from mmps.fileio.checkpoint import load_exactly
from mmps.registry import MODELS
from mmps.structures import person_boxes
from mmps.synthetic import SIZES, generate


@torch.no_grad()
def embed(cfg: Config, checkpoint: str) -> tuple[Tensor, Tensor]:
    """Returns the embeddings (P, D) and person_ids (P,) of the labelled persons of the training set."""
    with DefaultScope.overwrite_default_scope('mmps'):
        detector = MODELS.build(cfg.model)
        load_exactly(detector, checkpoint, 'CHECKPOINT')
        loader = Runner.build_dataloader(training_images(cfg))
    detector.eval()
    embeddings, ids = [], []
    for batch in loader:
        batch = detector.data_preprocessor(batch, False)
        samples = batch['data_samples']
        boxes = [
            each * each.new_tensor(sample.scale_factor).repeat(2)
            for each, sample in zip(person_boxes(samples), samples, strict=True)
        ]
        embeddings += detector.embed(detector.extract_feat(batch['inputs']), boxes, in_place=True)
        ids += [sample.gt_instances.person_ids for sample in samples]
    together = torch.cat(ids)
    return torch.cat(embeddings)[together >= 0], together[together >= 0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--identities', type=int, nargs='+', default=[80, 600])
    args = parser.parse_args()
    rows = []
    for count in args.identities:
        with tempfile.TemporaryDirectory() as folder:
            size = replace(SIZES['mini'], name=f'{count} identities', train_ids=count, train_scenes=5 * count, test_scenes=100)
            generate(f'{folder}/data', 'cuhk-sysu', replace(size, test_ids=20, queries=20), workers=2, style='classic')
            cfg = Config.fromfile(args.config)
            cfg.train_dataloader.dataset.data_root = f'{folder}/data'
            embeddings, ids = embed(cfg, args.checkpoint)
        table = F.normalize(torch.zeros(count, embeddings.shape[1]).index_add_(0, ids, embeddings))
        cosines = embeddings @ table.T
        row = [str(count), f'{cosines.gather(1, ids[:, None]).mean():.2f}']
        for temperature in (1 / 30, 0.1, temperature_of(cosines, torch.ones(count, dtype=torch.bool)).item()):
            log_p = F.log_softmax(cosines / temperature, dim=1)
            own = log_p.gather(1, ids[:, None]).exp().mean()
            perplexity = -(log_p.exp() * log_p).sum(1).mean()
            row.append(f'{own:.2f}, {perplexity.exp():.1f} (t = {temperature:.3f})')
        rows.append(row)
    print(markdown_table(['identities', 'own cosine', "OIM's 1/30", '0.1', 'the rule'], rows))


if __name__ == '__main__':
    main()
