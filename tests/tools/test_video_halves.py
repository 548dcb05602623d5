"""One half of a video against the other, in a video that stands still."""

import shutil

import pytest

from mmps.apis import PersonSearchInferencer
from mmps.apis.video import read_frames

INFO = '[Sequence]\nname=MOT17-02\nimDir=img1\nframeRate=30\nseqLength=4\nimWidth={}\nimHeight={}\nimExt=.jpg\n'


@pytest.fixture
def tool(repository, load_script):
    return load_script(repository / 'tools/benchmarks/video_halves.py')


@pytest.fixture
def call(tool, search_files, tmp_path, monkeypatch, capsys):
    """call(ids of two persons in each of four frames) -> the figures. The persons are where the model finds somebody."""
    scene = str(sorted((search_files / 'tiny/Image/SSM').glob('*.jpg'))[0])
    model = (str(search_files / 'config.py'), str(search_files / 'weights.pth'))
    search = PersonSearchInferencer(*model, 'cpu')
    ((frame, sample),) = search.detect(read_frames(scene))
    boxes = sample.pred_instances.bboxes[:2].tolist()
    folder = tmp_path / 'train/MOT17-02'

    def run(ids):
        (folder / 'img1').mkdir(parents=True)
        (folder / 'gt').mkdir()
        height, width = frame.image.shape[:2]
        (folder / 'seqinfo.ini').write_text(INFO.format(width, height))
        rows = []
        for number, numbers in enumerate(ids, 1):
            shutil.copy(scene, folder / f'img1/{number:06d}.jpg')
            for each, (x1, y1, x2, y2) in zip(numbers, boxes, strict=True):
                rows.append(f'{number},{each},{x1 + 1},{y1 + 1},{x2 - x1},{y2 - y1},1,1,1\n')
        (folder / 'gt/gt.txt').write_text(''.join(rows))
        monkeypatch.setattr('sys.argv', ['video_halves.py', str(tmp_path), '--model', model[0], '--weights', model[1]])
        tool.main()
        header, _, row = ([cell.strip() for cell in line.split('|')[1:-1]] for line in capsys.readouterr().out.splitlines())
        return dict(zip(header, row, strict=True))

    return run


def test_who_stands_still_is_found(call):
    figures = call([(3, 8)] * 4)
    assert [figures[name] for name in ('frames indexed', 'searched', 'persons', 'queries')] == ['2', '2', '2', '4']
    assert figures['best match right'] == figures['R-precision'] == '100.0%'


def test_who_took_the_place_of_another_is_not(call):
    figures = call([(3, 8)] * 2 + [(8, 3), (8, 4)])  # and 4 is not in the first half
    assert (figures['queries'], figures['best match right'], figures['R-precision']) == ('3', '0.0%', '0.0%')


def test_nobody_in_both_halves(call):
    with pytest.raises(ValueError, match='nobody is in both halves'):
        call([(3, 8)] * 2 + [(4, 5)] * 2)
