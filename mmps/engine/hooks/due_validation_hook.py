from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner

from mmps.registry import HOOKS

VALIDATED = 'validated'  # in the message hub, which is saved: the epoch, or iteration, of the latest validation


@HOOKS.register_module()
class DueValidationHook(Hook):
    """A resumed training first makes the validation that was due at its checkpoint, unless that was saved after it.

    MMEngine saves, then validates, and saves again if that was the best one; it goes on behind the validation in any case.
    """

    priority = 'LOWEST'  # the hook that saves the best checkpoint has to be ready

    def before_train(self, runner: Runner) -> None:
        loop = runner.train_loop
        done, end = progress(runner), loop.max_epochs if isinstance(loop, EpochBasedTrainLoop) else loop.max_iters
        if done in (0, runner.message_hub.runtime_info.get(VALIDATED)) or runner.val_loop is None:
            return
        loop._decide_current_val_interval()
        if done >= loop.val_begin and (done % loop.val_interval == 0 or done == end):
            runner.logger.info('First the validation that was due at the checkpoint')
            runner.val_loop.run()

    def before_val(self, runner: Runner) -> None:
        if isinstance(runner._train_loop, BaseLoop):  # not a validation alone
            runner.message_hub.update_info(VALIDATED, progress(runner))


def progress(runner: Runner) -> int:
    """Epochs, or iterations where the loop counts those."""
    return runner.epoch if isinstance(runner.train_loop, EpochBasedTrainLoop) else runner.iter
