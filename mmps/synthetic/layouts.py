"""Which files a layout has."""

from pathlib import Path

from . import cuhk_sysu, prw

_MODULES = {'cuhk-sysu': cuhk_sysu, 'prw': prw}


def image_path(layout, name):
    """Where an image lies under the data set's folder."""
    return _MODULES[layout].image_path(name)


def write_annotations(plan, out, **options):
    """Write all annotation files of a plan; no image is needed.

    Args:
        plan (Plan): What to write.
        out (str or Path): The data set's folder; made if it is not there.
        **options: For CUHK-SYSU, `gallery_sizes`: which TestG*.mat to write, all by default.
    """
    _MODULES[plan.layout].write(plan, Path(out), **options)
