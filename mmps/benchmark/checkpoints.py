"""A training in its folder, and the test of its last checkpoint: what is done, what has to go."""

import json
import shutil
from abc import ABC, abstractmethod
from pathlib import Path

from mmengine.config import Config


class TrainingFolder(ABC):
    """What a training and its test leave in ``work_dir``. Its config is kept beside: it tells later calls what is theirs."""

    work_dir: Path
    made_by: str
    stamp_name: str

    @property
    @abstractmethod
    def loaded(self) -> Config:
        """The config it is trained with."""

    @property
    def text(self) -> str:
        """The config as it is kept."""
        return self.loaded.pretty_text

    @property
    def checkpoint(self) -> Path:
        """The last one."""
        loop = self.loaded.train_cfg
        return self.work_dir / (f'iter_{loop.max_iters}.pth' if 'max_iters' in loop else f'epoch_{loop.max_epochs}.pth')

    @property
    def latest(self) -> Path | None:
        """The latest checkpoint, which training goes on from. MMEngine names it only after it is written."""
        note = self.work_dir / 'last_checkpoint'
        return self.work_dir / Path(note.read_text().strip()).name if note.is_file() else None

    @property
    def is_trained(self) -> bool:
        """Whether the last checkpoint is there, whole."""
        return self.latest == self.checkpoint and self.checkpoint.is_file()

    @property
    def stamp(self) -> Path:
        return self.work_dir / self.stamp_name

    @property
    def is_changed(self) -> bool:
        """Whether what is in the folder, if anything, was made with another config."""
        return not self.stamp.is_file() or self.stamp.read_text() != self.text

    def forget(self) -> None:
        """Drops all that earlier calls left.

        Raises:
            ValueError: The folder is not one that such a call made.
        """
        if self.work_dir.exists():
            if not self.stamp.is_file():
                raise ValueError(f'{self.work_dir}: not made by {self.made_by}, so it is not replaced; give another --work-dir')
            shutil.rmtree(self.work_dir)
        self.work_dir.mkdir(parents=True)
        self.stamp.write_text(self.text)

    def test_logs(self) -> list[Path]:
        return sorted((self.work_dir / 'test').glob('2*/*.json'))

    @property
    def is_tested(self) -> bool:
        return bool(self.test_logs())

    def test_scores(self) -> dict:
        return json.loads(self.test_logs()[-1].read_text().splitlines()[-1])
