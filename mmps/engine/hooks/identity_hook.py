from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner

from mmps.registry import HOOKS


@HOOKS.register_module()
class IdentityHook(Hook):
    """Gives the identity memory one row for each identity of the training set, before weights are loaded.

    So a model config names no number that belongs to a data set. A number that it does name must agree, and so must the
    teacher's where there is one; a teacher that knows its training set (it has ``check``) is asked whether this is it.

    Raises:
        ValueError: The data set has no identities, another number of them than the model, its teacher or the checkpoint that
            it resumes from, or is not the teacher's.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner: Runner) -> None:
        if not isinstance(runner._train_loop, BaseLoop):  # a test: the property would build the training loop
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
        if hasattr(teacher, 'check'):
            teacher.check(dataset)
        teacher = getattr(teacher, 'memory', None)
        if teacher is not None and teacher.num_identities == 0:
            raise ValueError('the teacher has no identities: name its checkpoint as model.teacher_ckpt')
        if teacher is not None and teacher.num_identities != num_identities:
            raise ValueError(
                f'teacher and student have different num_identities: the teacher has '
                f'{teacher.num_identities}, the student, from {name}, has {num_identities}'
            )
        runner.logger.info(f'Identity memory: {num_identities} identities, queue of {len(memory.queue)}')

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Other identities' rows are no use: a training that starts from them keeps its own, one that resumes stops."""
        if not isinstance(runner._train_loop, BaseLoop):
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        weights = checkpoint.get('state_dict', checkpoint)
        for name in [name for name in weights if name.endswith('memory.lut')]:
            if len(weights[name]) == model.memory.num_identities:
                continue
            found = f'{len(weights[name])} identities, the training set {model.memory.num_identities}'
            if runner._resume:
                raise ValueError(f'the checkpoint to resume from has {found}: it is of another data set')
            runner.logger.info(f'The checkpoint has {found}: its identity memory is not taken over')
            for key in [key for key in weights if key.startswith(name.removesuffix('lut'))]:
                del weights[key]
