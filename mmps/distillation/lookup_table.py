"""The re-id part of Munjal et al. (BMVC 2019): a teacher's mean embedding of every identity, computed once over the training
set, is the student's lookup table and stays fixed. Here is the file between the two. Shapes: I identities, D embedding size.
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
from torch import Tensor, nn
from tqdm import tqdm

from mmps.datasets.base import PersonSearchDataset
from mmps.datasets.fingerprint import fingerprint
from mmps.distillation.teachers.cache_files import typed
from mmps.fileio.arrays import one_line, open_npz, read_array
from mmps.fileio.atomic import write_atomic
from mmps.fileio.checkpoint import load_exactly, weights_fingerprint
from mmps.models.memory import IdentityMemory
from mmps.registry import MODELS
from mmps.structures import person_boxes
from mmps.version import __version__

FORMAT = 2
EXPORT = 'python tools/export_lookup_table.py CONFIG CHECKPOINT --out'


@dataclass(frozen=True)
class Header:
    """What a lookup table is of.

    Attributes:
        dataset: Class of the training set.
        data: Its fingerprint.
        num_identities: I.
        dims: D.
        teacher: File name of the teacher's config.
        weights: Fingerprint of the teacher's weights.
        created_by: Version of mmps.
        format: Version of the file.
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
        """Whether the table is one for this training.

        Raises:
            ValueError: It is of another data set, of other annotations or identities, or of another embedding size.
        """
        command = f'{EXPORT} {path} --dims {memory.embed_dims} makes one that fits, CONFIG being of the same training set'
        for what, theirs, ours in (
            ('training set', self.dataset, type(dataset).__name__),
            ('number of identities', self.num_identities, memory.num_identities),
            ('embedding size', self.dims, memory.embed_dims),
            ('fingerprint of the training set', self.data, fingerprint(dataset)),
        ):
            if theirs != ours:
                raise ValueError(f'{path}: {what} of the lookup table {theirs!s:.16}, of this training {ours!s:.16}; {command}')


def save_lookup_table(path: str | Path, header: Header, table: Tensor) -> None:
    """Writes an npz without pickle: ``header`` (JSON) and ``table`` (I, D), float32."""
    with write_atomic(path) as file:
        np.savez(file, header=np.array(json.dumps(asdict(header))), table=table.float().cpu().numpy())


def load_lookup_table(path: str | Path) -> tuple[Header, Tensor]:
    """Reads what :func:`save_lookup_table` wrote: the header and the table (I, D), float32.

    Raises:
        OSError: It cannot be opened.
        ValueError: Another file, another format, or a table that is not what the header says.
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
def mean_embeddings(detector: nn.Module, batches: Iterable[dict], num_identities: int) -> Tensor:
    """(I, D), the mean of the embeddings of each identity's boxes, L2-normalized; zeros where an identity has no box.

    Args:
        detector: In evaluation.
        batches: Of the training set through a test pipeline, in which annotations are in original-image pixels.
        num_identities: I.

    Raises:
        ValueError: The batches have no annotations.
    """
    sums = None
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
        embeddings = torch.cat(detector.embed(detector.extract_feat(batch['inputs']), boxes)).double()
        if sums is None:
            sums = embeddings.new_zeros(num_identities, embeddings.shape[1])
        sums.index_add_(0, torch.cat(person_ids), embeddings)
    return F.normalize(sums).float()


def with_dims(table: Tensor, dims: int) -> Tensor:
    """The table (I, D) with ``dims`` columns, its rows of unit length (or zero).

    Fewer: the leading principal directions of the rows as they are, whose scalar products so are approximated best (a mean that
    is subtracted would change them). More: zeros are added, and the cosines stay.
    """
    if dims < table.shape[1]:
        directions = torch.linalg.svd(table.double(), full_matrices=False).Vh[:dims]
        table = F.normalize(table.double() @ directions.T).float()
    return F.pad(table, (0, dims - table.shape[1]))


def export_lookup_table(cfg: Config, checkpoint: str, out: str, dims: int | None = None) -> str:
    """Computes a teacher's lookup table over the training set of its config, and writes it.

    Images are those of ``train_dataloader`` as the test pipeline makes them: one fixed size, none flipped.

    Args:
        cfg: Config of a detector.
        checkpoint: Must fit it exactly.
        out: The file that is written.
        dims: D of the table; None = the teacher's. See :func:`with_dims`.

    Returns:
        A line that says what was written.

    Raises:
        OSError: A file is missing or cannot be written.
        ValueError: The config is not one of a detector with its data; the checkpoint or ``dims`` does not fit.
    """
    name = Path(cfg.filename).name
    if dims is not None and dims < 1:
        raise ValueError(f'--dims: expected at least 1, got {dims}')
    for part in ('model', 'train_dataloader', 'test_dataloader'):
        if part not in cfg:
            raise ValueError(f'{name}: expected the config of a detector and of its data, it has no {part}')
    with DefaultScope.overwrite_default_scope('mmps'):
        detector = MODELS.build(cfg.model)
        if not hasattr(detector, 'embed'):
            raise ValueError(f'{name}: expected the config of a detector, its model is a {cfg.model.type}')
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
    """A dataloader's config: the training set as the test pipeline makes it, each image once."""
    dataset = cfg.train_dataloader.dataset
    if 'pipeline' not in dataset:
        raise ValueError(f'train_dataloader: expected a person-search data set of its own, got {dataset.type}')
    return ConfigDict({**cfg.test_dataloader, 'dataset': {**dataset, 'pipeline': cfg.test_dataloader.dataset.pipeline}})
