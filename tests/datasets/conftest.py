"""Fixtures: small data sets, and real samples if they are available."""

import os
from pathlib import Path

import pytest
from small_datasets import write_cuhk_sysu, write_mot, write_prw


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'annotations'


@pytest.fixture
def real_data():
    """Returns the path of a real sample, or skips the test."""
    root = Path(os.environ.get('MMPS_SHARED_DATA', Path(__file__).parents[2] / '../shared/data'))

    def find(name: str) -> Path:
        if not (root / name).exists():
            pytest.skip(f'no {name} in {root} (set MMPS_SHARED_DATA)')
        return root / name

    return find


@pytest.fixture
def cuhk_sysu(tmp_path):
    return write_cuhk_sysu(tmp_path / 'cuhk_sysu')


@pytest.fixture
def prw(tmp_path):
    return write_prw(tmp_path / 'prw')


@pytest.fixture
def mot(tmp_path):
    write_mot(tmp_path / 'mot/train/MOT16-02')
    return tmp_path / 'mot'


@pytest.fixture
def log_lines(monkeypatch):
    """Collects everything that the loaders log from here on."""
    lines = []
    for module in ('fileio.annotation_cache', 'datasets.cuhk_sysu'):
        monkeypatch.setattr(f'mmps.{module}.print_log', lambda line, *_: lines.append(line))
    return lines
