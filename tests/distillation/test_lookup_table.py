"""Tests the way from a teacher's checkpoint to a student that trains with the teacher's fixed lookup table."""

import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.runner import Runner

from mmps.cli import run_tool
from mmps.datasets.fingerprint import fingerprint
from mmps.distillation.lookup_table import Header, load_lookup_table, save_lookup_table, with_dims
from mmps.fileio.checkpoint import weights_fingerprint
from mmps.registry import DATASETS, MODELS

HEADER = Header(dataset='PRW', data='ab', num_identities=4, dims=3, teacher='teacher.py', weights='cd')


@pytest.fixture(autouse=True)
def plain_configs(monkeypatch):
    """Skips the formatting of config files, which takes longer than the training."""
    monkeypatch.setattr('mmengine.config.config.FormatCode', lambda text, **_: (text, True))


@pytest.fixture
def data(repository, load_script, tmp_path, monkeypatch):
    """Writes training scenes: two of identity 0, one of identity 1, and the only box of identity 2 has no width."""
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'cache'))
    module = load_script(repository / 'tests/datasets/small_datasets.py')
    return module.write_cuhk_sysu(tmp_path / 'data', persons=[*module.CUHK_PERSONS, [('s1.jpg', (80, 5, 0, 30))]])


@pytest.fixture
def write_config(repository, data, detector_config, tmp_path):
    """write_config(name, width, ...) -> path of a small detector's config over the data."""

    def write(name, kind='fpn', hooks=(), **kwargs):
        cfg = Config.fromfile(repository / 'configs/oim/oim_r18-w8-fpn_10e_synthps-mini.py')
        cfg.merge_from_dict({f'{part}_dataloader.dataset.data_root': str(data) for part in ('train', 'val', 'test')})
        cfg.model = detector_config(kind, num_identities=0, **kwargs)
        cfg.train_dataloader.dataset.pipeline[2].scale = cfg.test_dataloader.dataset.pipeline[1].scale = (96, 64)
        cfg.train_dataloader.batch_size = 2
        cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        cfg.param_scheduler = None
        cfg.custom_hooks = [*cfg.custom_hooks, *hooks]
        cfg.work_dir = str(tmp_path / 'work')
        cfg.dump(tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def teacher(write_config, mmps_scope, tmp_path):
    """Returns config, checkpoint and model of a teacher whose embeddings have 16 dimensions."""
    path = write_config('teacher.py')
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(path).model)
    model.init_weights()
    model.memory.resize(3)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'teacher.pth')
    return path, tmp_path / 'teacher.pth', model.eval()


@pytest.fixture
def export(repository, load_script, monkeypatch, capsys):
    """export(arguments) -> the error of the tool, None if it succeeded, and its output."""

    def run(*arguments):
        tool = load_script(repository / 'tools/export_lookup_table.py')
        monkeypatch.setattr(sys, 'argv', [tool.__file__, *map(str, arguments)])
        try:
            run_tool(tool.main)
        except SystemExit as stop:
            return stop.code, ''
        return None, capsys.readouterr().out

    return run


def embeddings_one_by_one(cfg, model):
    """Returns the data set, and for each identity the embeddings of its boxes, image by image."""
    dataset = DATASETS.build({**cfg.train_dataloader.dataset, 'pipeline': cfg.test_dataloader.dataset.pipeline})
    found = {}
    for index in range(len(dataset)):
        item = dataset[index]
        batch = dict(inputs=[item['inputs']], data_samples=[item['data_samples']])
        persons = model.test_step(batch)[0].gt_instances
        for person_id, embedding in zip(persons.person_ids.tolist(), persons.embeddings, strict=True):
            found.setdefault(person_id, []).append(embedding.double())
    return dataset, found


def test_rows_are_the_mean_embeddings_of_the_training_set(teacher, export, tmp_path):
    config, checkpoint, model = teacher
    status, said = export(config, checkpoint, '--out', tmp_path / 'new/table.npz')
    assert status is None and said.count('\n') == 1
    assert '3 identities of CUHKSYSU, 16 of the 16 dimensions of teacher.py; 1 identities have no box' in said
    header, table = load_lookup_table(tmp_path / 'new/table.npz')
    dataset, found = embeddings_one_by_one(Config.fromfile(config), model)
    assert len(found[0]) == 2 and -1 in found  # identity 0 has a real mean; unlabelled persons belong to none
    for person_id in range(2):
        mean = torch.stack(found[person_id]).mean(0)
        torch.testing.assert_close(table[person_id].double(), mean / mean.norm(), atol=1e-5, rtol=0)
    assert not table[2].any()
    assert header == Header(
        dataset='CUHKSYSU',
        data=fingerprint(dataset),
        num_identities=3,
        dims=16,
        teacher='teacher.py',
        weights=weights_fingerprint(model.state_dict()),
    )


@pytest.mark.parametrize('dims', [2, 8, 20])
def test_the_table_gets_the_given_number_of_dims(teacher, export, tmp_path, dims):
    config, checkpoint, _ = teacher
    for name, options in (('whole', []), ('fitted', ['--dims', dims])):
        assert export(config, checkpoint, '--out', tmp_path / f'{name}.npz', *options)[0] is None
    whole, fitted = (load_lookup_table(tmp_path / f'{name}.npz')[1] for name in ('whole', 'fitted'))
    assert fitted.shape == (3, dims)
    torch.testing.assert_close(fitted @ fitted.T, whole @ whole.T)  # two dimensions are enough for two identities


@pytest.mark.parametrize('identities, size', [(40, 16), (5, 16)])
def test_fewer_dims_are_the_leading_principal_directions(identities, size):
    table = F.normalize(torch.randn(identities, size, generator=torch.Generator().manual_seed(0)) + 0.5)
    values, vectors = torch.linalg.eigh(table.double() @ table.double().T)  # the best approximation of the cosines with rank 4
    best = F.normalize(vectors[:, -4:] * values[-4:].sqrt())
    fitted = with_dims(F.pad(table, (0, 0, 0, 1)), 4)  # the last identity was never seen
    assert fitted.shape == (identities + 1, 4) and not fitted[-1].any()
    torch.testing.assert_close((fitted[:-1] @ fitted[:-1].T).double(), best @ best.T, atol=1e-5, rtol=0)


def test_the_same_dims_change_nothing_and_more_dims_keep_the_cosines():
    table = F.normalize(torch.randn(6, 4))
    assert torch.equal(with_dims(table, 4), table)
    torch.testing.assert_close(with_dims(table, 6) @ with_dims(table, 6).T, table @ table.T)


@pytest.mark.parametrize('identities, size, dims', [(80, 256, 128), (80, 64, 32), (80, 32, 128)])
def test_every_column_of_a_table_is_used(identities, size, dims):
    """In the order of the principal directions the last columns would be zero, which an embedding in a batch norm cannot be."""
    table = F.normalize(torch.randn(identities, size, generator=torch.Generator().manual_seed(0)) + 0.3)
    columns = with_dims(table, dims).square().mean(0).sqrt()
    assert columns.min() > 0.4 * columns.max() and torch.equal(with_dims(table, dims), with_dims(table, dims))


def train(config, **changes):
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(changes)
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def test_a_student_trains_against_the_table_and_resumes_with_it(teacher, write_config, export, tmp_path):
    table_path, other_path = tmp_path / 'table.npz', tmp_path / 'other.npz'
    export(*teacher[:2], '--out', table_path, '--dims', 8)
    header, table = load_lookup_table(table_path)
    save_lookup_table(other_path, header, -table)
    hooks = [dict(type='LookupTableHook', path=str(table_path))]
    student = write_config('student.py', hooks=hooks, width=4)

    runner = train(student, experiment_name='first')
    memory = runner.model.memory
    assert torch.equal(memory.lut, table) and memory.queue_position > 0 and runner.iter == 2
    assert torch.equal(torch.load(tmp_path / 'work/epoch_1.pth')['state_dict']['roi_head.reid_loss.memory.lut'], table)

    resumed = train(student, experiment_name='resumed', resume=True, **{'train_cfg.max_epochs': 2})
    assert resumed.epoch == 2 and torch.equal(resumed.model.memory.lut, table)
    other = write_config('other.py', hooks=[dict(hooks[0], path=str(other_path))], width=4)
    with pytest.raises(ValueError, match=r'to resume from was trained with another lookup table than \S+other\.npz$'):
        train(other, experiment_name='other', resume=True, **{'train_cfg.max_epochs': 3})


@pytest.mark.parametrize(
    'content',
    [
        b'no table\n',
        dict(header=np.array('{}'), table=np.zeros((4, 3))),
        dict(header=np.array('text'), table=np.zeros((4, 3))),
        dict(table=np.zeros((4, 3), dtype=np.float32)),
        dict(header=np.array({'format': 1}, dtype=object), table=np.zeros((4, 3))),
        np.zeros(3),
        np.array({'format': 1}, dtype=object),
    ],
    ids=['text', 'no fields', 'no JSON', 'no header', 'pickled header', 'one array', 'pickle'],
)
def test_another_file_is_refused_in_one_line(content, tmp_path):
    path = tmp_path / 'table.npz'
    with path.open('wb') as file:
        if isinstance(content, bytes):
            file.write(content)
        elif isinstance(content, dict):
            np.savez(file, **content)
        else:
            np.save(file, content)
    with pytest.raises(ValueError, match=r'table\.npz is no lookup table: expected what python tools/\w+\.py') as error:
        load_lookup_table(path)
    assert '\n' not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'nothing\.npz'):
        load_lookup_table(tmp_path / 'nothing.npz')


def test_a_torch_checkpoint_is_refused(tmp_path):
    torch.save(dict(table=torch.zeros(4, 3)), tmp_path / 'table.npz')
    with pytest.raises(ValueError, match='is no lookup table'):
        load_lookup_table(tmp_path / 'table.npz')


@pytest.mark.parametrize(
    'table, words',
    [
        (torch.zeros(4, 2), r'expected finite float32 numbers \(4, 3\), as its header says, got float32 \(4, 2\)'),
        (torch.full((4, 3), torch.nan), 'expected finite float32 numbers'),
    ],
)
def test_a_table_that_contradicts_its_header_is_refused(table, words, tmp_path):
    save_lookup_table(tmp_path / 'table.npz', HEADER, table)
    with pytest.raises(ValueError, match=words):
        load_lookup_table(tmp_path / 'table.npz')


def test_a_newer_format_is_refused(tmp_path, monkeypatch):
    save_lookup_table(tmp_path / 'table.npz', Header(**{**vars(HEADER), 'format': 3}), torch.zeros(4, 3))
    with pytest.raises(ValueError, match='format 3, but this version of mmps reads format 2'):
        load_lookup_table(tmp_path / 'table.npz')


def without_data(cfg):
    cfg.pop('train_dataloader')


def without_annotations(cfg):
    cfg.test_dataloader.dataset.pipeline = [
        each for each in cfg.test_dataloader.dataset.pipeline if each.type != 'LoadPersonAnnotations'
    ]


def repeated(cfg):
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=cfg.train_dataloader.dataset)


def deeper(cfg):
    cfg.model.backbone.depth = 34


def without_embeddings(cfg):
    cfg.model = cfg.model.backbone


@pytest.mark.parametrize(
    'change, words',
    [
        (without_data, 'wrong.py: expected the config of a detector with its data, but it has no train_dataloader'),
        (without_annotations, 'test_dataloader: expected a pipeline with LoadPersonAnnotations'),
        (repeated, 'train_dataloader: expected a person-search data set without a wrapper, got RepeatDataset'),
        (deeper, 'CHECKPOINT: '),
        (without_embeddings, 'wrong.py: expected the config of a person-search detector, but its model is a ResNet'),
    ],
    ids=lambda value: getattr(value, '__name__', ''),
)
def test_a_config_that_does_not_fit_is_refused_in_one_line(teacher, export, tmp_path, change, words):
    cfg = Config.fromfile(teacher[0])
    change(cfg)
    cfg.dump(tmp_path / 'wrong.py')
    status, _ = export(tmp_path / 'wrong.py', teacher[1], '--out', tmp_path / 'table.npz')
    assert status.startswith(f'error: {words}') and '\n' not in status
    assert not (tmp_path / 'table.npz').exists()


def test_zero_dims_are_refused(teacher, export, tmp_path):
    status, _ = export(*teacher[:2], '--out', tmp_path / 'table.npz', '--dims', 0)
    assert status == 'error: --dims: expected at least 1, got 0'
