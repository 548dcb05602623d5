"""Chooses the module that knows a layout's files."""

from collections.abc import Sequence
from pathlib import Path

from . import cuhk_sysu, prw
from .plan import Plan

_MODULES = {'cuhk-sysu': cuhk_sysu, 'prw': prw}


def image_path(layout: str, name: str) -> Path:
    """Returns the path of an image, relative to the data set's folder."""
    return _MODULES[layout].IMAGES / name


def write_annotations(plan: Plan, out: str | Path, **options: Sequence[int]) -> None:
    """Writes all annotation files of a plan. No image is needed.

    Args:
        plan: What to write.
        out: The data set's folder. It is made if it does not exist.
        **options: For CUHK-SYSU, `gallery_sizes`: which TestG*.mat to write; by default all.
    """
    _MODULES[plan.layout].write(plan, Path(out), **options)
