"""Opens a gallery as a web page, on which a person is searched."""

from pathlib import Path

from mmps.page.guard import read_auth
from mmps.page.server import serve
from mmps.page.service import SearchService

from .searching import model_parser, open_inferencer


def main() -> None:
    parser = model_parser(__doc__)
    parser.add_argument('--host', default='127.0.0.1', help='address to listen on; default only this machine (%(default)s)')
    parser.add_argument('--port', type=int, default=8080, help='0 = any that is free (%(default)s)')
    parser.add_argument(
        '--auth', metavar='USER:PASSWORD_FILE', help='ask for this user and the password in the first line of the file'
    )
    parser.add_argument(
        '--inputs', type=Path, nargs='+', default=(), metavar='DIR', help='folders that may be added to the gallery on the page'
    )
    parser.add_argument(
        '--uploads', type=Path, metavar='DIR', help='keeps photographs that are added on the page; default GALLERY-uploads'
    )
    args = parser.parse_args()
    auth = None if args.auth is None else read_auth(args.auth)
    for path in args.inputs:
        if not path.exists():
            raise FileNotFoundError(f'--inputs: {path}: there is no such folder')
    is_server = '://' in args.gallery
    uploads = args.uploads or Path('work_dirs/uploads' if is_server else args.gallery.removesuffix('.db') + '-uploads')
    serve(SearchService(open_inferencer(args, show_progress=False), args.inputs, uploads), args.host, args.port, auth)
