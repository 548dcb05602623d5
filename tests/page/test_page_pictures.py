"""Which pictures the page shows: those of the gallery and those that were uploaded, and nothing else of the machine."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from mmps.page.pictures import (
    CROP_HEIGHT,
    MAX_BYTES,
    MAX_PIXELS,
    MAX_UPLOADS,
    SIDE,
    Pictures,
    RefusedError,
    check_photograph,
    crop,
    file_name,
    read_box,
    shown_crop,
    shown_scene,
)


def test_a_source_is_read_by_its_number_only(pictures, folder):
    assert pictures.read(pictures.key(str(folder / 'b.jpg'))).shape == (48, 64, 3)
    for key in ('3', '-1', '', '0/../1', '../a.jpg', str(folder / 'a.jpg'), '%2e%2e', '\u0661', 'u', 'nothing'):
        with pytest.raises(RefusedError):
            pictures.read(key)


def test_what_was_removed_from_the_gallery_is_not_shown_any_more(pictures, folder):
    key = pictures.key(str(folder / 'a.jpg'))
    pictures.read(key)
    pictures.allow([str(folder / 'b.jpg')])
    with pytest.raises(RefusedError, match='no longer'):
        pictures.read(key)
    pictures.allow([str(folder / 'b.jpg'), str(folder / 'a.jpg')])
    assert pictures.key(str(folder / 'a.jpg')) == key and pictures.read(key) is not None


def test_a_link_may_not_lead_out_of_its_folder(folder, tmp_path, jpeg):
    (tmp_path / 'secret').mkdir()
    (tmp_path / 'secret/s.jpg').write_bytes(jpeg())
    for name, target in (('out.jpg', tmp_path / 'secret/s.jpg'), ('in.jpg', folder / 'a.jpg')):
        (folder / name).symlink_to(target)
    (folder / 'dots.jpg').symlink_to('../secret/s.jpg')
    names = [str(folder / name) for name in ('dots.jpg', 'in.jpg', 'out.jpg')]
    pictures = Pictures()
    pictures.allow([*names, 'rtsp://camera'])
    assert pictures.read(pictures.key(names[1])).shape == (48, 64, 3)
    for name in (names[0], names[2]):
        with pytest.raises(RefusedError, match='leads out'):
            pictures.read(pictures.key(name))
    with pytest.raises(RefusedError, match='stream'):
        pictures.read(pictures.key('rtsp://camera'))
    pictures = Pictures([tmp_path / 'secret'])  # unless it leads into a folder that may be shown
    pictures.allow(names)
    assert pictures.read(pictures.key(names[2])).shape == (48, 64, 3)


def test_an_upload_has_a_key_that_cannot_be_guessed_and_the_oldest_goes(jpeg):
    pictures = Pictures()
    keys = [pictures.upload(jpeg()) for _ in range(MAX_UPLOADS + 1)]
    assert len(set(keys)) == len(keys) and all(len(key) > 20 for key in keys)
    assert pictures.read(keys[-1]).shape == (48, 64, 3)
    with pytest.raises(RefusedError):
        pictures.read(keys[0])


def huge_png(width: int, height: int) -> bytes:
    """A PNG that says it is huge and has next to no bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    header = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + header + chunk(b'IDAT', zlib.compress(b'\0' * 100)) + chunk(b'IEND', b'')


def test_too_many_pixels_are_refused_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('decoded'))
    for size in ((8000, MAX_PIXELS // 8000 + 1), (60_000, 60_000)):
        with pytest.raises(RefusedError, match='40 million pixels'):
            Pictures().upload(huge_png(*size))


def test_only_photographs_are_taken(jpeg):
    gif = io.BytesIO()
    Image.new('RGB', (8, 8)).save(gif, 'GIF')
    for data in (b'', b'no image', b'<svg xmlns="http://www.w3.org/2000/svg"/>', gif.getvalue(), b'%PDF-1.4'):
        with pytest.raises(RefusedError, match='not a photograph'):
            check_photograph(data)
    with pytest.raises(RefusedError, match='at most 20 MB'):
        check_photograph(jpeg() + bytes(MAX_BYTES))
    assert check_photograph(jpeg()) == '.jpg' and check_photograph(huge_png(10, 10)) == '.png'
    damaged = Pictures()
    with pytest.raises(RefusedError, match='damaged'):
        damaged.read(damaged.upload(huge_png(10, 10)))


def test_scenes_and_crops_have_a_bounded_size():
    image = np.zeros((100, 2 * SIDE, 3), np.uint8)
    sent = cv2.imdecode(np.frombuffer(shown_scene(image), np.uint8), cv2.IMREAD_COLOR)
    assert sent.shape == (50, SIDE, 3)
    for box in ((5, 5, 30, 80), (-20, -20, 60, 60), (0, 0, 2 * SIDE, 1)):
        sent = cv2.imdecode(np.frombuffer(shown_crop(image, box), np.uint8), cv2.IMREAD_COLOR)
        assert sent.shape[0] == CROP_HEIGHT and sent.shape[1] <= 4 * CROP_HEIGHT
    for box in ((-50, -50, 10, 10), (4000, 5, 10, 10), (5, 5, -100, -100)):
        with pytest.raises(RefusedError):
            crop(image, box)


def test_a_box_of_a_url_is_four_numbers():
    assert read_box('1,2.5,30,40') == (1, 2.5, 30, 40)
    for text in ('', '1,2,3', '1,2,3,4,5', 'nan,1,1,1', 'inf,1,1,1', '1e9,1,1,1', 'a,b,c,d'):
        with pytest.raises(RefusedError):
            read_box(text)


def test_a_kept_upload_has_a_harmless_name():
    for name in ('../../etc/passwd', 'a/b.jpg', '.jpg', 'x' * 500, 'ümläut 雪.png', 'a\0b', '-rf'):
        made = file_name(name, '.jpg')
        assert '/' not in made and '..' not in made and '\0' not in made and not made.startswith(('.', '-')) and len(made) < 100
    assert file_name('holiday 1.jpeg', '.jpg').startswith('holiday_1-')
