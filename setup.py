"""The metadata is in setup.cfg; this file makes an editable install findable for OpenMMLab's tools."""

from pathlib import Path

from setuptools import setup
from setuptools.command.editable_wheel import editable_wheel


class EditableWheel(editable_wheel):
    """An editable install whose metadata say where the package is.

    MIM and MMEngine (``mim train mmps``, ``mmps::`` configs) look for a package in ``site-packages/mmps``, where an
    editable install has nothing, then in ``site-packages/<first line of top_level.txt>``: an absolute path leads home.
    """

    def _ensure_dist_info(self):
        super()._ensure_dist_info()
        Path(self.dist_info_dir, 'top_level.txt').write_text(f'{Path(__file__).resolve().parent / "mmps"}\nmmps\n')


setup(cmdclass={'editable_wheel': EditableWheel})
