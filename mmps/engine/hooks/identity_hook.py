from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner

from mmps.registry import HOOKS


@HOOKS.register_module()
class IdentityHook(Hook):
    """Gives the identity memory one row per identity of the training set, before weights are loaded.

    So a model config needs no number that belongs to a data set. If it has one, the number must agree, and so must that of
    the teacher. A teacher with a method ``check`` checks whether it was made for this training set.

    Raises:
        ValueError: The data set has no identities, or their number is not that of the model, its teacher or the checkpoint to
            resume from, or the teacher was made for another training set.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner: Runner) -> None:
        if not isinstance(runner._train_loop, BaseLoop):  # in a test the property would build the training loop
            return
        dataset = runner.train_loop.dataloader.dataset
        num_identities = dataset.metainfo.get('num_identities', 0)
        name = dataset.metainfo.get('dataset_type', type(dataset).__name__)
        if num_identities < 1:
            raise ValueError(f'{name}: the training set has no labelled identity (metainfo num_identities={num_identities})')
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        memory = model.memory
        if memory.num_identities == 0:
            memory.resize(num_identities)
        elif memory.num_identities != num_identities:
            raise ValueError(
                f'the model has num_identities={memory.num_identities}, the training set {name} has {num_identities}'
            )
        teacher = getattr(model, 'teacher', None)
        if teacher is not None and hasattr(teacher, 'check'):
            teacher.check(dataset)
        teacher_memory = getattr(teacher, 'memory', None)
        if teacher_memory is not None and teacher_memory.num_identities == 0:
            raise ValueError('the teacher has no identities: set its checkpoint in model.teacher_ckpt')
        if teacher_memory is not None and teacher_memory.num_identities != num_identities:
            raise ValueError(
                f'teacher and student have different num_identities: the teacher has '
                f'{teacher_memory.num_identities}, the student, from {name}, has {num_identities}'
            )
        runner.logger.info(f'Identity memory: {num_identities} identities, queue of {len(memory.queue)}')

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Drops the checkpoint's memory of another number of identities, or raises ValueError when resuming."""
        if not isinstance(runner._train_loop, BaseLoop):
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        weights = checkpoint.get('state_dict', checkpoint)
        for name in [name for name in weights if name.endswith('memory.lut')]:
            if len(weights[name]) == model.memory.num_identities:
                continue
            found = f'{len(weights[name])} identities, the training set has {model.memory.num_identities}'
            if runner._resume:
                raise ValueError(f'the checkpoint to resume from has {found}: it is of another data set')
            runner.logger.info(f'The checkpoint has {found}: its identity memory is not loaded')
            for key in [key for key in weights if key.startswith(name.removesuffix('lut'))]:
                del weights[key]
