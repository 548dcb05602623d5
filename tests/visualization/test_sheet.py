import numpy as np
import pytest

from mmps.visualization.sheet import Sheet, read_picture, write_picture


def test_pasted_pictures_keep_their_pixels():
    sheet = Sheet(31, 47)
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    sheet.paste(noise, 5, 9)
    picture = sheet.picture()
    assert picture.shape == (31, 47, 3) and picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[5:25, 9:39], noise)
    assert (picture[:5] == 255).all() and (picture[:, 39:] == 255).all()


def test_a_frame_is_outside_of_its_pixels():
    sheet = Sheet(40, 40)
    sheet.frame(10, 10, 20, 20, (210, 45, 55), thickness=3)
    picture = sheet.picture()
    assert (picture[10:30, 10:30] == 255).all()
    assert (picture[7:10, 7:33] == (210, 45, 55)).all() and (picture[30:33, 7:33] == (210, 45, 55)).all()
    assert (picture[6] == 255).all() and (picture[33] == 255).all()


def test_text_starts_at_its_position_on_the_base_line():
    sheet = Sheet(40, 80)
    sheet.write('HEM', 25, 20, points=9)
    dark = np.argwhere(sheet.picture().min(axis=-1) < 200)
    assert 19 <= dark[:, 1].min() <= 23 and 23 <= dark[:, 0].max() <= 25 and dark[:, 0].min() >= 13


def test_a_written_picture_is_read_with_the_same_colours(tmp_path):
    picture = np.zeros((4, 5, 3), np.uint8)
    picture[..., 0] = 200
    write_picture(tmp_path / 'new/red.png', picture)
    np.testing.assert_array_equal(read_picture(tmp_path / 'new/red.png'), picture)


def test_an_unreadable_picture_is_named(tmp_path):
    (tmp_path / 'text.png').write_text('no picture')
    for name in ('text.png', 'gone.png'):
        with pytest.raises(FileNotFoundError, match=f'{name}: there is no readable image'):
            read_picture(tmp_path / name)
