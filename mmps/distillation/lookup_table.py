"""Computes, writes and reads the lookup table of Munjal et al. (BMVC 2019), for their re-id distillation.

A teacher's mean embedding of every identity, computed once over the training set, is the student's lookup table and stays
fixed. Shapes: I identities, D embedding size.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import Tensor
from tqdm import tqdm

from mmps.datasets.base import PersonSearchDataset
from mmps.datasets.fingerprint import fingerprint
from mmps.distillation.losses.embedding import orthonormal
from mmps.distillation.teachers.cache_files import typed
from mmps.fileio.arrays import one_line, open_npz, read_array
from mmps.fileio.atomic import write_atomic
from mmps.fileio.checkpoint import load_exactly, weights_fingerprint
from mmps.models.detectors.base import PersonSearchDetector
from mmps.models.memory import IdentityMemory
from mmps.registry import MODELS
from mmps.structures import person_boxes
from mmps.version import __version__

FORMAT = 2
EXPORT = 'python tools/export_lookup_table.py CONFIG CHECKPOINT --out'


@dataclass(frozen=True)
class Header:
    """Describes a lookup table.

    Attributes:
        dataset: Class of the training set.
        data: Fingerprint of the training set.
        num_identities: I.
        dims: D.
        teacher: File name of the teacher's config.
        weights: Fingerprint of the teacher's weights.
        created_by: Version of mmps.
        format: Version of the file format.
    """

    dataset: str
    data: str
    num_identities: int
    dims: int
    teacher: str
    weights: str
    created_by: str = __version__
    format: int = FORMAT

    def check(self, path: str, dataset: PersonSearchDataset, memory: IdentityMemory) -> None:
        """Checks that the table fits this training.

        Raises:
            ValueError: The data set, its annotations, the number of identities or the embedding size differ.
        """
        command = f'write one that fits with: {EXPORT} {path} --dims {memory.embed_dims} (CONFIG must have this training set)'
        for what, theirs, ours in (
            ('training set', self.dataset, type(dataset).__name__),
            ('number of identities', self.num_identities, memory.num_identities),
            ('embedding size', self.dims, memory.embed_dims),
            ('fingerprint of the training set', self.data, fingerprint(dataset)),
        ):
            if theirs != ours:
                raise ValueError(
                    f'{path}: {what} differs: the lookup table has {theirs!s:.16}, this training has {ours!s:.16}; {command}'
                )


def save_lookup_table(path: str | Path, header: Header, table: Tensor) -> None:
    """Writes an npz file without pickle: ``header`` (JSON) and ``table`` (I, D), float32."""
    with write_atomic(path) as file:
        np.savez(file, header=np.array(json.dumps(asdict(header))), table=table.float().cpu().numpy())


def load_lookup_table(path: str | Path) -> tuple[Header, Tensor]:
    """Reads a file of :func:`save_lookup_table`: the header and the table (I, D), float32.

    Raises:
        OSError: The file cannot be opened.
        ValueError: The file is no lookup table, has another format, or its table does not match its header.
    """
    try:
        with open_npz(path) as arrays:
            header = typed(Header, json.loads(str(read_array(arrays, 'header'))))
            table = read_array(arrays, 'table')
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is no lookup table: expected what {EXPORT} {path} writes ({one_line(error)})') from error
    if header.format != FORMAT:
        raise ValueError(f'{path}: format {header.format}, but this version of mmps reads format {FORMAT}')
    if table.dtype != np.float32 or table.shape != (header.num_identities, header.dims) or not np.isfinite(table).all():
        raise ValueError(
            f'{path}: expected finite float32 numbers ({header.num_identities}, {header.dims}), as its header says, '
            f'got {table.dtype} {table.shape}'
        )
    return header, torch.from_numpy(table)


@torch.no_grad()
def mean_embeddings(detector: PersonSearchDetector, batches: Iterable[dict], num_identities: int) -> Tensor:
    """Returns each identity's mean embedding over its boxes, L2-normalized: (I, D). A row is zero if the identity has no box.

    Args:
        detector: The detector, in evaluation mode.
        batches: The training set through a test pipeline, so annotations are in original-image pixels.
        num_identities: I.

    Raises:
        ValueError: The batches have no annotations.
    """
    lut = detector.memory.lut
    sums = torch.zeros(num_identities, lut.shape[1], dtype=torch.float64, device=lut.device)
    for batch in batches:
        batch = detector.data_preprocessor(batch, False)
        samples, boxes, person_ids = batch['data_samples'], [], []
        if not all('bboxes' in sample.gt_instances for sample in samples):
            raise ValueError('test_dataloader: expected a pipeline with LoadPersonAnnotations')
        for sample, of_image in zip(samples, person_boxes(samples), strict=True):
            of_image = of_image * of_image.new_tensor(sample.scale_factor).repeat(2)
            ids = sample.gt_instances.person_ids
            usable = (ids >= 0) & (of_image[:, 2:] > of_image[:, :2]).all(1)
            boxes.append(of_image[usable])
            person_ids.append(ids[usable])
        embeddings = torch.cat(detector.embed(detector.extract_feat(batch['inputs']), boxes, in_place=True)).double()
        sums.index_add_(0, torch.cat(person_ids), embeddings)
    return F.normalize(sums).float()


def with_dims(table: Tensor, dims: int) -> Tensor:
    """Returns the table (I, D) with ``dims`` columns. Its rows have unit length, or are zero.

    With fewer columns, the rows are projected onto their leading principal directions. The mean is not subtracted: so their
    scalar products are approximated best. With more columns, zeros are added, and the cosines stay the same.

    Both would leave columns that are almost or exactly zero, which an embedding that ends in a batch norm cannot follow. So the
    result is multiplied by a fixed random orthogonal matrix. It spreads the values over all columns and keeps the cosines.
    """
    if dims == table.shape[1]:
        return table
    wide = table.double()
    if dims < wide.shape[1]:
        directions = torch.linalg.svd(wide, full_matrices=False).Vh[:dims]
        wide = F.normalize(wide @ directions.T)
    wide = F.pad(wide, (0, dims - wide.shape[1]))
    return (wide @ orthonormal(dims, dims)).float()


def export_lookup_table(cfg: Config, checkpoint: str, out: str, dims: int | None = None) -> str:
    """Computes a teacher's lookup table over the training set of its config, and writes it.

    The images are those of ``train_dataloader``, loaded by the test pipeline: one fixed size, no flips.

    Args:
        cfg: Config of a detector.
        checkpoint: The detector's checkpoint. It must fit exactly.
        out: The file to write.
        dims: D of the table. None = the teacher's. See :func:`with_dims`.

    Returns:
        One line that says what was written.

    Raises:
        OSError: A file is missing or cannot be written.
        ValueError: The config is not that of a detector with its data, or the checkpoint or ``dims`` does not fit.
    """
    name = Path(cfg.filename).name
    if dims is not None and dims < 1:
        raise ValueError(f'--dims: expected at least 1, got {dims}')
    for part in ('model', 'train_dataloader', 'test_dataloader'):
        if part not in cfg:
            raise ValueError(f'{name}: expected the config of a detector with its data, but it has no {part}')
    with DefaultScope.overwrite_default_scope('mmps'):
        detector = MODELS.build(cfg.model)
        if not hasattr(detector, 'embed'):
            raise ValueError(f'{name}: expected the config of a person-search detector, but its model is a {cfg.model.type}')
        load_exactly(detector, checkpoint, 'CHECKPOINT')
        loader = Runner.build_dataloader(training_images(cfg))
    dataset = loader.dataset
    header = dict(
        dataset=type(dataset).__name__,
        data=fingerprint(dataset),
        num_identities=dataset.metainfo['num_identities'],
        teacher=name,
        weights=weights_fingerprint(detector.state_dict()),
    )
    batches = tqdm(loader, desc='embedding', unit='batch')
    means = mean_embeddings(detector.to(get_device()).eval(), batches, header['num_identities']).cpu()
    table = with_dims(means, dims or means.shape[1])
    save_lookup_table(out, Header(**header, dims=table.shape[1]), table)
    unseen = int((~means.any(1)).sum())
    return (
        f'{out}: {len(table)} identities of {header["dataset"]}, {table.shape[1]} of the {means.shape[1]} dimensions of '
        f'{name}; {unseen} identities have no box, their rows are zero'
    )


def training_images(cfg: Config) -> ConfigDict:
    """Returns the config of a dataloader that gives each training image once, through the test pipeline."""
    dataset = cfg.train_dataloader.dataset
    if 'pipeline' not in dataset:
        raise ValueError(f'train_dataloader: expected a person-search data set without a wrapper, got {dataset.type}')
    return ConfigDict({**cfg.test_dataloader, 'dataset': {**dataset, 'pipeline': cfg.test_dataloader.dataset.pipeline}})
