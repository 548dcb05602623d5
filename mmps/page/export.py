"""What was found, as files to keep: a table, data, and an archive with the pictures."""

import io
import json
import zipfile
from typing import Any

import cv2

from mmps.apis.found import write_table

from .pictures import Pictures, RefusedError, crop, to_jpeg

GREEN = (90, 160, 40)


def to_csv(found: dict[str, Any]) -> bytes:
    """Writes a row per match; the last column is its mark."""
    file = io.StringIO(newline='')
    write_table([found], file, extra=['mark'])
    return file.getvalue().encode()


def to_json(found: dict[str, Any]) -> bytes:
    return json.dumps(found, indent=1).encode()


def to_zip(found: dict[str, Any], pictures: Pictures) -> bytes:
    """Writes ``matches.csv``, ``matches.json``, each match's crop, and its scene with the box drawn.

    A scene that cannot be read any more is named in ``missing.txt``.
    """
    file = io.BytesIO()
    missing = []
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('matches.csv', to_csv(found), zipfile.ZIP_DEFLATED)
        archive.writestr('matches.json', to_json(found), zipfile.ZIP_DEFLATED)
        for match in found['matches']:
            name = f'{match["rank"]:03d}.jpg'
            try:
                scene = pictures.read(pictures.key(match['source']), match['frame'])
                person = to_jpeg(crop(scene, match['bbox']), 95)
            except RefusedError as error:
                missing.append(f'{name}: {match["source"]}, frame {match["frame"]}: {error}\n')
                continue
            archive.writestr(f'crops/{name}', person)
            x, y, width, height = map(round, match['bbox'])
            archive.writestr(f'scenes/{name}', to_jpeg(cv2.rectangle(scene.copy(), (x, y, width, height), GREEN, 3)))
        if missing:
            archive.writestr('missing.txt', ''.join(missing))
    return file.getvalue()
