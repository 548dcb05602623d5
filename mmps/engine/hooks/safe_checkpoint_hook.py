from collections import deque
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmps.fileio.atomic import remove_unfinished, write_atomic
from mmps.models.sharded_memory import whole_tables
from mmps.registry import HOOKS


@register_backend('atomic')
class AtomicBackend(LocalBackend):
    """Writes local files with :func:`~mmps.fileio.atomic.write_atomic`."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        with write_atomic(filepath) as file:
            file.write(obj)


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's checkpoint hook, but the last checkpoint stays complete if the training is killed or the disk is full.

    It writes the checkpoint under a temporary name and renames it. It does the same for ``last_checkpoint``. Only then does
    it remove the outdated checkpoint. So for a short time there is one more than ``max_keep_ckpts``. A lookup table that is
    spread over the ranks is written whole.
    """

    keep_ckpt_ids: deque[int]

    def __init__(self, *args: Any, out_dir: str | None = None, backend_args: dict | None = None, **kwargs: Any) -> None:
        if backend_args is None and kwargs.get('file_client_args') is None and '://' not in str(out_dir):
            backend_args = dict(backend='atomic')
        super().__init__(*args, out_dir=out_dir, backend_args=backend_args, **kwargs)
        self.replaced: list[str] = []

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        self.last_ckpt = runner.message_hub.runtime_info.get('last_ckpt')  # the best checkpoint is recorded in this file
        if is_main_process():
            remove_unfinished(runner.work_dir, 'last_checkpoint')
            remove_unfinished(self.out_dir, '*.pth')

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        self._remove_replaced()  # the new checkpoint no longer refers to them
        if self.max_keep_ckpts > 0:
            steps = [*self.keep_ckpt_ids] if step in self.keep_ckpt_ids else [*self.keep_ckpt_ids, step]
            # The new checkpoint still lists the outdated one, so the next start removes it if this run is killed before.
            runner.message_hub.update_info('keep_ckpt_ids', steps)
            self.keep_ckpt_ids = deque(steps, self.max_keep_ckpts)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        with whole_tables(runner.model):
            runner.save_checkpoint(
                self.out_dir,
                name,
                self.file_client_args,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
                backend_args=self.backend_args,
                **self.args,
            )
        if not is_main_process():
            return
        with write_atomic(Path(runner.work_dir) / 'last_checkpoint', 'w') as file:
            file.write(self.last_ckpt)
        if self.max_keep_ckpts > 0:
            for outdated in steps[: -self.max_keep_ckpts]:
                path = self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(outdated))
                if self.file_backend.isfile(path):
                    self.file_backend.remove(path)
                elif self.file_backend.isdir(path):  # a checkpoint of a sharded training
                    self.file_backend.rmtree(path)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not self.save_best:
            return
        self.file_backend.remove = self.replaced.append  # postponed: MMEngine removes the old best before it writes the new
        with whole_tables(runner.model):
            super()._save_best_checkpoint(runner, metrics)
        self._remove_replaced()

    def _remove_replaced(self) -> None:
        self.file_backend.__dict__.pop('remove', None)
        best = {getattr(self, 'best_ckpt_path', None), *getattr(self, 'best_ckpt_path_dict', {}).values()}
        for path in {*self.replaced} - best:
            self.file_backend.remove(path)
        self.replaced.clear()
