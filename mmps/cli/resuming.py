"""Which checkpoint a training goes on from."""

from pathlib import Path

from mmengine.runner import CheckpointLoader, find_latest_checkpoint


def checkpoint_to_resume(asked: str, work_dir: str) -> str | None:
    """The checkpoint that ``--resume`` means, looked into before anything is written.

    Args:
        asked: A checkpoint, or 'auto' for the latest of the work directory.

    Returns:
        None: There is none yet.

    Raises:
        OSError: It is not there, or cannot be opened.
        ValueError: It is damaged, or one of those that hold weights only.
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
