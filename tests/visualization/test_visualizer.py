import numpy as np
import pytest
from mmengine.registry import VISUALIZERS
from mmengine.visualization import LocalVisBackend

from mmps.visualization.sheet import read_picture
from mmps.visualization.visualizer import SearchVisualizer

HISTOGRAMS = np.array([-1, 0, 1.0]), np.array([0, 1]), np.array([1, 1])


@pytest.fixture
def visualizer(tmp_path):
    return SearchVisualizer(vis_backends=[LocalVisBackend(save_dir=str(tmp_path / 'local'))])


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*.*'))


def has(path, colour):
    return (read_picture(path) == colour).all(axis=-1).any()


def test_every_backend_gets_the_pictures_with_the_step(scenes, result, colours, visualizer, tmp_path):
    protocol, predictions, paths = scenes
    visualizer.add_search(protocol, predictions, result, paths, HISTOGRAMS, step=12)
    folder = tmp_path / 'local/vis_image'
    assert files(folder) == [f'{name}_12.png' for name in ('failures', 'precision_recall', 'ranked_results', 'similarities')]
    for name in ('ranked_results', 'failures'):
        assert all(has(folder / f'{name}_12.png', colour) for colour in colours)


def test_a_folder_gets_the_pictures_instead_of_the_backends(scenes, result, visualizer, tmp_path):
    protocol, predictions, paths = scenes
    visualizer.add_search(protocol, predictions, result, paths, out_dir=str(tmp_path / 'show'))
    assert files(tmp_path / 'show') == ['failures.png', 'precision_recall.png', 'ranked_results.png']
    assert not (tmp_path / 'local').exists()


def test_limits_of_queries_and_results_are_respected(scenes, result, colours, visualizer, tmp_path):
    protocol, predictions, paths = scenes
    sizes = []
    for topk in (1, 2):
        visualizer.add_search(protocol, predictions, result, paths, topk=topk, num_failures=0, out_dir=str(tmp_path / 'show'))
        sizes.append(read_picture(tmp_path / 'show/failures.png').shape[0])
        assert has(tmp_path / 'show/ranked_results.png', colours[3])  # the missed target
    assert max(sizes) < 50  # only a legend


def test_the_curve_is_named_with_its_map(scenes, result, visualizer, monkeypatch):
    protocol, predictions, paths = scenes
    named = []
    monkeypatch.setattr(
        'mmps.visualization.visualizer.draw_precision_recall',
        lambda curves: named.extend(curves) or np.zeros((1, 1, 3), np.uint8),
    )
    visualizer.add_search(protocol, predictions, result, paths, name='OIM')
    assert named == ['OIM: mAP 25.0']


def test_a_missing_image_is_named_and_nothing_is_written(scenes, result, visualizer, tmp_path):
    protocol, predictions, paths = scenes
    with pytest.raises(FileNotFoundError, match=r'gone\.jpg: there is no readable image'):
        visualizer.add_search(protocol, predictions, result, [*paths[:3], str(tmp_path / 'gone.jpg')])
    assert not (tmp_path / 'local').exists()


def test_the_registry_has_the_visualizer(mmps_scope):
    assert isinstance(VISUALIZERS.build(dict(type='SearchVisualizer', name='found by a config')), SearchVisualizer)
