import os
import re
import sys
from collections.abc import Callable

# What wrong input raises: a file that is missing or unreadable, a value that does not fit, a loss that is not finite.
EXPECTED = (OSError, ValueError, FloatingPointError)


def run_tool(main: Callable[[], None]) -> None:
    """Runs a command-line tool: wrong input ends it with one line on stderr and exit status 1, not with a traceback.

    ``MMPS_TRACEBACK=1`` in the environment shows where it happened. Any other exception keeps its traceback: it is a bug.
    """
    try:
        main()
    except EXPECTED as error:
        if os.environ.get('MMPS_TRACEBACK'):
            raise
        sys.exit(f'error: {one_line(error)}')


def one_line(error: BaseException) -> str:
    """The message without what others put around it: the registry's "class X in file:", a data worker's traceback."""
    if isinstance(error, OSError) and error.filename:
        return f'{error.filename}: {error.strerror}'
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = re.sub(r'^\w*(Error|Exception): ', '', lines[-1]) if 'Original Traceback' in str(error) else ' '.join(lines)
    return re.sub(r'^(class `\w+` in \S+: )+', '', line)
