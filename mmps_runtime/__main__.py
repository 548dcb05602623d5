"""Prints the persons of images as JSON: ``python -m mmps_runtime student.onnx street.jpg``."""

import argparse
import json

import cv2

from .backends import BACKENDS
from .model import PersonSearchModel


def main() -> None:
    parser = argparse.ArgumentParser('python -m mmps_runtime', description='Prints the persons of images as JSON.')
    parser.add_argument('model', help='a file that mmps export wrote')
    parser.add_argument('images', nargs='+')
    parser.add_argument('--backend', choices=BACKENDS, default='onnxruntime')
    parser.add_argument('--score-thr', type=float, help='least confidence of a person; default as the file says')
    parser.add_argument('--embeddings', action='store_true', help='print the embeddings too')
    args = parser.parse_args()
    try:
        model = PersonSearchModel(args.model, args.backend, args.score_thr)
        for path in args.images:
            image = cv2.imread(path)
            if image is None:
                raise OSError(f'{path}: no image')
            (persons,) = model([image])
            for box, score, embedding in zip(persons.boxes, persons.scores, persons.embeddings, strict=True):
                found = dict(image=path, box=box.tolist(), score=float(score))
                print(json.dumps(found | (dict(embedding=embedding.tolist()) if args.embeddings else {})))
    except (OSError, ImportError, ValueError) as error:
        parser.exit(1, f'error: {error}\n')


if __name__ == '__main__':
    main()
