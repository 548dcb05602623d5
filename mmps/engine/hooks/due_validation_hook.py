from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner

from mmps.registry import HOOKS

VALIDATED = 'validated'  # key in the saved message hub: epoch or iteration of the latest validation


@HOOKS.register_module()
class DueValidationHook(Hook):
    """Runs the validation that was due at the checkpoint when a training resumes, unless the checkpoint includes it.

    MMEngine saves, then validates, then saves again if the score is the best. A training that stops in between would resume
    without that validation.
    """

    priority = 'LOWEST'  # after the hook that saves the best checkpoint is set up

    def before_train(self, runner: Runner) -> None:
        loop = runner.train_loop
        done, end = progress(runner), loop.max_epochs if isinstance(loop, EpochBasedTrainLoop) else loop.max_iters
        if done in (0, runner.message_hub.runtime_info.get(VALIDATED)) or runner.val_loop is None:
            return
        loop._decide_current_val_interval()
        if done >= loop.val_begin and (done % loop.val_interval == 0 or done == end):
            runner.logger.info('Running the validation that was due at the checkpoint')
            runner.val_loop.run()

    def before_val(self, runner: Runner) -> None:
        if isinstance(runner._train_loop, BaseLoop):  # False in a run of validation only
            runner.message_hub.update_info(VALIDATED, progress(runner))


def progress(runner: Runner) -> int:
    """Returns the number of finished epochs, or of iterations if the loop counts iterations."""
    return runner.epoch if isinstance(runner.train_loop, EpochBasedTrainLoop) else runner.iter
