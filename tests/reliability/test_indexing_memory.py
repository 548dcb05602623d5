"""Indexing thousands of images needs no more memory than the persons that it adds."""

import os
import statistics

import cv2
import pytest

from mmps.apis.indexing import Indexer
from mmps.apis.inferencer import PersonSearchInferencer

IMAGES = int(os.environ.get('MMPS_SOAK_IMAGES', '5000'))
BYTES_A_PERSON = 6000  # that Milvus Lite keeps in memory: the embedding, its table's row and its index


def resident_megabytes():
    with open('/proc/self/status') as status:
        return next(int(line.split()[1]) for line in status if line.startswith('VmRSS')) / 1024


@pytest.fixture
def inferencer(search_files, tmp_path):
    model = (str(search_files / 'config.py'), str(search_files / 'weights.pth'), 'cpu')
    inferencer = PersonSearchInferencer(*model, gallery=tmp_path / 'gallery.db', show_progress=False)
    yield inferencer
    inferencer.close()


@pytest.mark.soak
def test_memory_grows_by_the_persons_alone(inferencer, search_files, report, tmp_path):
    scenes = sorted((search_files / 'tiny/Image/SSM').glob('*.jpg'))
    folder = tmp_path / 'images'
    folder.mkdir()
    for number in range(IMAGES):
        os.link(scenes[number % len(scenes)], folder / f'{number:05d}.jpg')
    held = []
    for counts in inferencer.index_batches(folder, Indexer(inferencer.gallery)):
        held.append((counts['persons'], resident_megabytes()))
    persons, memory = zip(*(held[IMAGES // 5 - 1], held[IMAGES - 1]), strict=True)
    report(images=[IMAGES // 5, IMAGES], persons=persons, memory_mb=[round(each) for each in memory])
    assert memory[1] - memory[0] < 30 + (persons[1] - persons[0]) * BYTES_A_PERSON / 2**20


@pytest.mark.soak
def test_ten_passes_over_a_video_need_the_memory_of_two(inferencer, search_files, report, tmp_path):
    image = cv2.imread(str(next((search_files / 'tiny/Image/SSM').glob('*.jpg'))))
    path = tmp_path / 'street.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 10, image.shape[1::-1])
    for _ in range(IMAGES // 50):
        writer.write(image)
    writer.release()
    held = []
    for _ in range(10):
        inferencer.index(path)
        held.append(resident_megabytes())
    report(frames=IMAGES // 50, memory_mb=[round(each) for each in held])
    assert statistics.median(held[-3:]) < 1.05 * statistics.median(held[1:4])
