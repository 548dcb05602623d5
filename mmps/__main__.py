"""``python -m mmps`` is the command ``mmps``."""

from mmps.cli.main import main

if __name__ == '__main__':
    main()
