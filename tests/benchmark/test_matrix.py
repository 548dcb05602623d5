import copy
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config

from mmps.benchmark.matrix import compose, config_as_python
from mmps.benchmark.matrix_file import read_matrix
from mmps.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
OIM = {'config': 'oim/oim_r18-w8-fpn_10e_synthps-mini.py'}
BIG_OIM = {'config': 'oim/oim_r18-w32-fpn_10e_synthps-mini.py'}
CROPS = {'config': 'reid/reid_r18-w32_10e_synthps-mini.py'}


@pytest.fixture
def write(tmp_path):
    """write(change) -> path of a matrix; ``change`` edits its content, or is the text itself."""

    def written(change=lambda content: None) -> Path:
        content = dict(
            data=str(tmp_path),
            teachers={'big': dict(BIG_OIM), 'crops': dict(CROPS)},
            students={'small': dict(OIM)},
            methods={'plain': {}, 'GDPS': {'distiller': 'gdps'}},
        )
        path = tmp_path / 'matrix.yml'
        if isinstance(change, str):
            path.write_text(change)
        else:
            content = copy.deepcopy(content)
            change(content)
            path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return written


@pytest.fixture
def read(write):
    return lambda change=lambda content: None, **kwargs: read_matrix(write(change), CONFIGS, **kwargs)


def composed(matrix, method, teacher=None, checkpoint=None, lookup_table=None, seed=0):
    return compose(
        matrix.students['small'],
        matrix.methods[method],
        matrix.teachers[teacher] if teacher else None,
        checkpoint,
        lookup_table,
        seed,
    )


@pytest.mark.parametrize(
    'name', ['synthps-mini', 'synthps-bench', 'synthps-bench-pretrained', 'synthps-small', 'cuhk-sysu', 'prw']
)
def test_all_that_a_shipped_matrix_names_is_there(name, tmp_path):
    matrix = read_matrix(CONFIGS / 'benchmarks' / f'{name}.yml', CONFIGS, tmp_path)
    assert len(matrix.teachers) >= 3 and len(matrix.students) >= 2 and len(matrix.methods) >= 14
    for student in matrix.students.values():
        for method in matrix.methods.values():
            for teacher in matrix.teachers_of(student, method):
                cfg = compose(student, method, teacher, Path('teacher.pth'), None, 0)
                assert cfg.train_dataloader.dataset.data_root == str(tmp_path)


def test_each_student_of_the_hkd_matrix_is_taught_by_a_head_of_its_own_kind(tmp_path):
    matrix = read_matrix(CONFIGS / 'benchmarks' / 'hkd-synthps-mini.yml', CONFIGS, tmp_path)
    for student in matrix.students.values():
        (teacher,) = matrix.teachers_of(student, matrix.methods['HKD'])
        cfg = compose(student, matrix.methods['HKD'], teacher, Path('teacher.pth'), None, 0)
        assert cfg.model.teacher.detector == cfg.model.architecture == student.cfg.model
        assert cfg.get('load_from') == teacher.cfg.get('load_from')


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda c: c.update(metods={}), r"there is no key 'metods': did you mean methods"),
        (lambda c: c.pop('students'), 'students is missing'),
        (lambda c: c.update(students=[]), r'students: expected a mapping, got \[\]'),
        (
            lambda c: c['students']['small'].update(config='oim/oim_r18-w8-fpn_10e_synthps.py'),
            r"students: small: there is no config 'oim/oim_r18-w8-fpn_10e_synthps.py': did you mean oim/",
        ),
        (lambda c: c['students'].update(other=None), 'students: other: expected a mapping with config, got None'),
        (lambda c: c['students']['small'].update(teacher='bigg'), r"there is no teacher 'bigg': did you mean big\?"),
        (lambda c: c['students']['small'].update(teacher=['big', 'x']), "there is no teacher 'x': there is big, crops"),
        (lambda c: c['methods']['GDPS'].update(distiller='gdsp'), "methods: GDPS: there is no distiller 'gdsp': did you mean"),
        (lambda c: c['methods']['GDPS'].update(seeds=0), 'methods: GDPS: seeds: expected 1 or more, got 0'),
        (lambda c: c['methods']['GDPS'].update(seeds='3'), "methods: GDPS: seeds: expected a whole number, got '3'"),
        (
            lambda c: c['methods']['GDPS'].update(seed=3),
            r"methods: GDPS: there is no key 'seed': did you mean seeds or schedule\?",
        ),
        (lambda c: c['methods']['GDPS'].update(tune=True), "methods: GDPS: tune needs the matrix's tune"),
        (
            lambda c: (c.update(tune=[1], validation=1), c['methods']['GDPS'].update(tune='smal')),
            r"methods: GDPS: there is no student 'smal': did you mean small\?",
        ),
        (lambda c: c['methods']['plain'].update(scale=3), 'methods: plain: scale and tune are for methods with a distiller'),
        (lambda c: c['methods']['GDPS'].update(scale={'smal': 3}), r"there is no student 'smal': did you mean small\?"),
        (lambda c: c['methods']['GDPS'].update(scale={'small': '3'}), "scale: small: expected a number, got '3'"),
        (lambda c: c['methods']['plain'].update(schedule=0), 'methods: plain: schedule: expected a factor above 0, got 0'),
        (lambda c: c['methods']['plain'].update(teacher='big'), 'methods: plain: has a teacher, but neither'),
        (lambda c: c['methods'].update(lut={'lookup_table': True, 'teacher': 'none'}), 'lut: lookup_table needs a teacher'),
        (lambda c: c['methods'].update({'gdps': {}}), "methods: 'GDPS' and 'gdps' would share the folder gdps"),
        (lambda c: c['methods'].update({'***': {}}), r"methods: expected names with letters or digits, got '\*\*\*'"),
        (lambda c: c.update(headline=['GDP']), r"headline: there is no method 'GDP': did you mean GDPS\?"),
        (lambda c: c['teachers'].update(none=BIG_OIM), 'teachers: none: a teacher cannot have this name'),
        (lambda c: c.update(synthesise={'size': 'tiny'}), 'synthesise: layout is missing'),
        (lambda c: c.update(methods={}), 'methods: expected one or more'),
        (lambda c: c['methods'].update(GDPS=None), 'methods: GDPS: expected a mapping, got None'),
        (lambda c: c['teachers']['big'].update(checkpoint='mmps://reel'), 'mmps://reel: mmps comes with mmps://real'),
        (lambda c: c.update(teachers={}), "methods: GDPS: needs a teacher, and 'small' has none"),
        (lambda c: c['students']['small'].update(teacher=[['big']]), r"there is no teacher \['big'\]"),
        ('data: [', 'not YAML'),
        ('data: here\nmethods: {a: {}, a: {}}', "'a' is there twice"),
        ('no mapping', "expected a mapping with data and students and methods, got 'no mapping'"),
    ],
)
def test_what_a_matrix_cannot_say_is_refused_by_name(read, change, message):
    with pytest.raises(ValueError, match=message) as error:
        read(change)
    assert '\n' not in str(error.value) and 'matrix.yml' in str(error.value)


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda c: c['teachers']['big'].update(checkpoint='nowhere.pth'), 'teachers: big: there is no checkpoint nowhere.pth'),
        (lambda c: c.update(data='nowhere'), 'nowhere: there is no such folder'),
    ],
)
def test_files_that_are_missing_are_named_before_anything_runs(read, change, message):
    with pytest.raises(FileNotFoundError, match=message):
        read(change)


def test_a_student_is_taught_by_every_detector_unless_it_or_the_method_says_otherwise(read):
    def change(content):
        content['teachers']['other'] = BIG_OIM
        content['students'] = {'all': OIM, 'one': {**OIM, 'teacher': 'other'}, 'two': {**OIM, 'teacher': ['other', 'big']}}
        content['methods'].update(
            DKD={'distiller': 'dkd', 'teacher': 'crops'}, HKD={'distiller': 'hkd-self', 'teacher': 'none'}
        )

    matrix = read(change)

    def names(student, method):
        return [teacher and teacher.name for teacher in matrix.teachers_of(matrix.students[student], matrix.methods[method])]

    assert names('all', 'GDPS') == ['big', 'other'] and names('one', 'GDPS') == ['other']
    assert names('two', 'GDPS') == ['other', 'big']
    assert names('all', 'DKD') == ['crops'] and names('one', 'HKD') == [None] == names('one', 'plain')


def test_the_distilled_config_differs_from_the_plain_one_in_its_model_alone(read):
    matrix = read()
    plain, distilled = composed(matrix, 'plain', seed=2), composed(matrix, 'GDPS', 'big', 'big.pth', seed=2)
    published = Config.fromfile(CONFIGS / 'gdps/gdps_oim-r18-w32_oim-r18-w8_10e_synthps-mini.py').model
    assert plain.randomness.seed == 2 and plain.model == published.architecture
    assert {key for key in plain if plain[key] != distilled[key]} == {'model'} and plain.keys() == distilled.keys()
    assert distilled.model == {**published, 'teacher': matrix.teachers['big'].cfg.model, 'teacher_ckpt': 'big.pth'}


def test_a_longer_schedule_stretches_the_loop_and_what_counts_in_epochs(read):
    matrix = read(lambda content: content['methods'].update(twice={'schedule': 2}))
    plain, twice = composed(matrix, 'plain'), composed(matrix, 'twice')
    assert twice.train_cfg == {**plain.train_cfg, 'max_epochs': 20, 'val_interval': 20}
    assert [scheduler.end for scheduler in plain.param_scheduler] == [50, 10]  # the warm-up is 50 steps
    assert [scheduler.end for scheduler in twice.param_scheduler] == [50, 20]
    assert matrix.reference == 'plain'


def test_the_factor_of_a_methods_weights_is_in_the_config_of_its_distiller(read):
    matrix = read(lambda content: content['methods']['GDPS'].update(scale={'small': 3}))
    student, method, teacher = matrix.students['small'], matrix.methods['GDPS'], matrix.teachers['big']
    assert method.scales == {'small': 3}
    cfg = compose(student, method, teacher, Path('big.pth'), None, 0, scale=3)
    assert (
        cfg.model.distiller.scale == 3 and 'scale' not in compose(student, method, teacher, 'big.pth', None, 0).model.distiller
    )


def test_without_a_teacher_the_model_is_given_none(read):
    matrix = read(lambda content: content['methods'].update(HKD={'distiller': 'hkd-self', 'teacher': 'none'}))
    assert not {'teacher', 'teacher_ckpt'} & composed(matrix, 'HKD').model.keys()


def test_hooks_of_a_method_come_after_those_of_the_student(read):
    matrix = read(lambda content: content['methods'].update(lut={'lookup_table': True}))
    plain, fixed = composed(matrix, 'plain'), composed(matrix, 'lut', 'big', 'big.pth', Path('big.npz'))
    assert fixed.custom_hooks == [*plain.custom_hooks, {'type': 'LookupTableHook', 'path': 'big.npz'}]
    assert fixed.model == plain.model


def test_options_of_all_of_one_and_of_the_call_are_applied_in_this_order(read):
    def change(content):
        content['options'] = {
            'train_dataloader.batch_size': 2,
            'max_epochs': 3,
            'optim_wrapper.optimizer': {'_delete_': True, 'type': 'SGD', 'lr': '1e-4'},
        }
        content['students']['small']['options'] = {'max_epochs': 4, 'log_level': 'ERROR', 'img_scale': '(832, 480)'}
        content['methods']['GDPS']['options'] = {'model.box_jitter': 0.3}

    matrix = read(change, options={'log_level': 'DEBUG'})
    for network in (matrix.students['small'], *matrix.teachers.values()):
        assert network.cfg.train_dataloader.batch_size == 2 and network.cfg.log_level == 'DEBUG'
        assert network.cfg.optim_wrapper.optimizer == {'type': 'SGD', 'lr': 1e-4}
    cfg = composed(matrix, 'GDPS', 'big', 'big.pth')
    assert (cfg.max_epochs, cfg.img_scale, cfg.model.box_jitter) == (4, (832, 480), 0.3)
    assert matrix.teachers['big'].cfg.max_epochs == 3


def test_the_data_root_of_a_data_set_that_is_wrapped_is_replaced_too(read, tmp_path, monkeypatch):
    wrapped = Config(
        dict(
            model={'type': 'CropReID'},
            train_dataloader=dict(dataset=dict(type='RepeatDataset', times=2, dataset=dict(type='PRW', data_root='there'))),
        )
    )
    monkeypatch.setattr(Config, 'fromfile', lambda path: copy.deepcopy(wrapped))
    matrix = read(lambda content: content.update(methods={'plain': {}}))
    assert matrix.students['small'].cfg.train_dataloader.dataset == dict(
        type='RepeatDataset', times=2, dataset=dict(type='PRW', data_root=str(tmp_path))
    )


def test_a_composed_config_survives_its_file_and_builds(read, tmp_path, mmps_scope):
    matrix, checkpoint = read(), tmp_path / 'big.pth'
    teacher = MODELS.build(matrix.teachers['big'].cfg.model)
    torch.save({'state_dict': teacher.state_dict()}, checkpoint)
    cfg = composed(matrix, 'GDPS', 'big', checkpoint)
    file = tmp_path / 'config.py'
    file.write_text(config_as_python(cfg))
    again = Config.fromfile(file)
    assert again.to_dict() == cfg.to_dict()
    model = MODELS.build(again.model)
    torch.testing.assert_close(model.teacher.network.state_dict(), teacher.state_dict())
