"""The folder of a training: what in it is finished, and what was made with another config."""

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .matrix import config_as_python


@dataclass(eq=False)
class TrainingFolder:
    """The folder of a training and of the test of its last checkpoint. It also keeps the config that they were made with.

    Attributes:
        config: What the network is trained with.
    """

    work_dir: Path
    config: Config

    @cached_property
    def config_text(self) -> str:
        return config_as_python(self.config)

    @property
    def final_checkpoint(self) -> Path:
        loop = self.config.train_cfg
        return self.work_dir / (f'iter_{loop.max_iters}.pth' if 'max_iters' in loop else f'epoch_{loop.max_epochs}.pth')

    @property
    def latest_checkpoint(self) -> Path | None:
        """The checkpoint that training resumes from. MMEngine names it only after it is written."""
        note = self.work_dir / 'last_checkpoint'
        return self.work_dir / Path(note.read_text().strip()).name if note.is_file() else None

    @property
    def is_trained(self) -> bool:
        """Whether the final checkpoint is there and complete."""
        return self.latest_checkpoint == self.final_checkpoint and self.final_checkpoint.is_file()

    @property
    def kept_config(self) -> Path:
        return self.work_dir / 'benchmark_config.py'  # not config.py: MMEngine replaces that by its own version of the config

    @property
    def is_outdated(self) -> bool:
        """Whether the folder is new, or its content was made with another config."""
        return not self.kept_config.is_file() or self.kept_config.read_text() != self.config_text

    def clear(self) -> None:
        """Deletes what earlier calls left, and keeps the config for later ones.

        Raises:
            ValueError: The folder was not made by the benchmark.
        """
        if self.work_dir.exists():
            if not self.kept_config.is_file():
                raise ValueError(f'{self.work_dir}: not made by the benchmark, so it is not replaced; give another --work-dir')
            shutil.rmtree(self.work_dir)
        self.work_dir.mkdir(parents=True)
        self.kept_config.write_text(self.config_text)

    def test_logs(self) -> list[Path]:
        return sorted((self.work_dir / 'test').glob('2*/*.json'))

    @property
    def is_tested(self) -> bool:
        return bool(self.test_logs())

    def test_scores(self) -> dict[str, Any]:
        return json.loads(self.test_logs()[-1].read_text().splitlines()[-1])
