"""Finds the checkpoint from which a training resumes."""

from pathlib import Path

from mmengine.runner import CheckpointLoader, find_latest_checkpoint


def checkpoint_to_resume(asked: str, work_dir: str) -> str | None:
    """Returns the checkpoint that ``--resume`` means, and checks it before anything is written; None if there is none yet.

    Args:
        asked: A checkpoint, or 'auto' for the latest one of the work directory.

    Raises:
        OSError: The checkpoint is missing or cannot be opened.
        ValueError: It is damaged, or it holds weights only.
    """
    if asked == 'auto':
        asked, note = find_latest_checkpoint(work_dir), Path(work_dir) / 'last_checkpoint'
        if asked is None:
            return None
        if '://' not in asked and not Path(asked).is_file():
            raise FileNotFoundError(
                f'--resume: {note} names a checkpoint that is not there: {asked!r}; name one as '
                f'--resume FILE, or remove {note} to begin anew'
            )
    if '://' not in asked and not Path(asked).is_file():
        raise FileNotFoundError(f'--resume: there is no file {asked}')
    try:
        checkpoint = CheckpointLoader.load_checkpoint(asked, map_location='cpu', logger='silent')
    except ValueError as error:
        raise ValueError(f'--resume: {error}') from error
    if not {'meta', 'message_hub', 'optimizer'} <= checkpoint.keys():
        raise ValueError(f'--resume: {asked} has weights at most, no state of a training')
    return asked
