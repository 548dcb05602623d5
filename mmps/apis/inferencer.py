"""Finds persons in images and videos, keeps them in a gallery, and finds a person again."""

import hashlib
import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.infer import BaseInferencer
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from torch import nn
from tqdm import tqdm

from mmps.fileio.checkpoint import load_exactly
from mmps.registry import MODELS, TRANSFORMS

from .found import draw_found, write_found
from .gallery import Gallery
from .sightings import FIELDS, Match, Sighting, Where
from .video import Frame, UnreadableSourceError, list_sources, read_frames

DECODERS, AHEAD = 2, 8  # threads that prepare images, and how many images they may be ahead
AnyItem = TypeVar('AnyItem')
AnyResult = TypeVar('AnyResult')


class PersonSearchInferencer(BaseInferencer):
    """Searches persons with a trained model, in the way of MMDetection's ``DetInferencer``.

    ::

        search = PersonSearchInferencer('oim_mobilenetv2.py', 'epoch_3.pth', gallery='work_dirs/gallery.db')
        search.index(['photographs/', 'street.mp4'], stride=10)
        for match in search('query.jpg', bboxes=[[40, 60, 80, 200]])['predictions'][0]['matches']:
            print(match['similarity'], match['source'], match['time'])

    Args:
        model: Path of a config, its name in the model index, or a config.
        weights: Path of a checkpoint. Every tensor must fit.
        device: Default: a GPU, if there is one.
        gallery: A :class:`Gallery`'s file or server, for :meth:`index` and searches.
        score_thr: Persons of a lower confidence are not kept.
        height: Shorter side to which images are resized for the model, in pixels. Default: as in its test.
        show_progress: Show a progress bar while indexing.

    Raises:
        FileNotFoundError: There is no such config or checkpoint.
        ValueError: The checkpoint is of another model.
    """

    preprocess_kwargs: set[str] = set()
    forward_kwargs: set[str] = set()
    visualize_kwargs: set[str] = set()
    postprocess_kwargs: set[str] = set()

    def __init__(
        self,
        model: str | Config,
        weights: str,
        device: str | None = None,
        gallery: str | Path | None = None,
        score_thr: float = 0.5,
        height: int | None = None,
        show_progress: bool = True,
    ) -> None:
        self.height = height
        super().__init__(model, weights, device, scope='mmps', show_progress=show_progress)
        self.score_thr = score_thr
        self.gallery: Gallery | None = None
        if gallery is not None:
            self.gallery = Gallery(gallery, self.fingerprint, self.model.memory.embed_dims)

    def _init_model(self, cfg: Config, weights: str, device: str = 'cpu') -> nn.Module:
        with DefaultScope.overwrite_default_scope('mmps'):
            model = MODELS.build(cfg.model)
        load_exactly(model, weights, 'weights')
        digest = hashlib.sha256(str(cfg.model).encode() + Path(weights).read_bytes()).hexdigest()
        self.fingerprint = f'{Path(weights).parent.name}/{Path(weights).name} {digest[:12]}'
        model.cfg = cfg
        return model.to(device).eval()

    def _init_pipeline(self, cfg: Config) -> Callable[[dict], dict]:
        """The transforms of the model's test after reading, without annotations."""
        steps = cfg.test_dataloader.dataset.pipeline
        with DefaultScope.overwrite_default_scope('mmps'):
            kept = [dict(step) for step in steps if not step['type'].endswith(('LoadImageFromFile', 'LoadPersonAnnotations'))]
            for step in kept:
                if self.height and step['type'].endswith('Resize'):
                    step.update(scale=(8 * self.height, self.height), keep_ratio=True)
            return Compose([TRANSFORMS.build(step) for step in kept])

    def _init_collate(self, cfg: Config) -> Callable[[list], dict]:
        return pseudo_collate

    def _init_visualizer(self, cfg: Config) -> None:
        return None

    def detect(
        self, frames: Iterable[Frame], boxes: Sequence[Sequence[Sequence[float]]] | None = None, batch_size: int = 1
    ) -> Iterator[tuple[Frame, DetDataSample]]:
        """Yields each frame with what the model finds in it, boxes in pixels of the frame.

        ``pred_instances`` has bboxes (N, 4) as x1 y1 x2 y2, scores (N,) and embeddings (N, D); ``query_instances`` the
        embeddings of the given boxes. Frames are prepared by threads while the model works, and only a few are in memory.

        Args:
            frames: The frames.
            boxes: For each frame the boxes to embed beside the detections: x, y, width, height.
            batch_size: Images at a time.
        """
        given = itertools.repeat(()) if boxes is None else boxes
        prepared = run_ahead(self._prepare, zip(frames, given, strict=boxes is not None), DECODERS, AHEAD + batch_size)
        while batch := list(itertools.islice(prepared, batch_size)):
            samples = self.forward(self.collate_fn([data for _, data in batch]))
            for (frame, _), sample in zip(batch, samples, strict=True):
                persons = sample.pred_instances
                sample.pred_instances = persons[persons.scores >= self.score_thr]
                yield frame, sample

    def _prepare(self, item: tuple[Frame, Sequence[Sequence[float]]]) -> tuple[Frame, dict]:
        frame, boxes = item
        size = frame.image.shape[:2]
        corners = [[x, y, x + w, y + h] for x, y, w, h in boxes]
        queries = [dict(bbox=box, query_id=number) for number, box in enumerate(corners)]
        data = dict(img=frame.image, img_path=frame.source, img_id=0, img_shape=size, ori_shape=size, queries=queries)
        return frame, self.pipeline(data)

    def index(
        self,
        inputs: str | Path | Sequence[str | Path],
        camera: str = '',
        start: float = 0.0,
        stride: int = 1,
        batch_size: int = 1,
    ) -> dict[str, int]:
        """Adds everybody in images and videos to the gallery.

        A source that is there already is replaced. After an interruption, the same call goes on where it was, up to the last
        batch. What cannot be read is named, counted and passed over.

        Args:
            inputs: Files, folders, patterns, URLs of streams.
            camera: Name of the camera.
            start: Time of the first frame, in seconds, of whatever clock.
            stride: Only every n-th frame of a video.
            batch_size: Images at a time.

        Returns:
            Counts: ``sources``, ``frames``, ``persons`` and ``unreadable``.

        Raises:
            ValueError: There is no gallery.
        """
        counts = dict(sources=0, frames=0, persons=0, unreadable=0)
        with tqdm(unit='frame', disable=not self.show_progress) as bar:
            for counts in self.index_batches(inputs, camera, start, stride, batch_size):
                bar.update(counts['frames'] - bar.n)
                bar.set_postfix(persons=counts['persons'], refresh=False)
        return counts

    def index_batches(
        self,
        inputs: str | Path | Sequence[str | Path],
        camera: str = '',
        start: float = 0.0,
        stride: int = 1,
        batch_size: int = 1,
    ) -> Iterator[dict[str, int]]:
        """As :meth:`index`, and yields the counts after every batch. Whoever stops taking them stops the indexing there."""
        gallery = self._gallery()
        counts = dict(sources=0, frames=0, persons=0, unreadable=0)
        found = self.detect(self._frames(inputs, camera, stride, counts), batch_size=batch_size)
        while batch := list(itertools.islice(found, batch_size)):
            for source, part in itertools.groupby(batch, key=lambda item: item[0].source):
                of_source = list(part)
                last = of_source[-1][0]
                sightings = [
                    each for frame, sample in of_source for each in sightings_of(frame, sample, camera, start + frame.time)
                ]
                gallery.add(source, sightings, last.number + 1, complete=last.is_last)
                counts['persons'] += len(sightings)
                counts['sources'] += last.is_last
            counts['frames'] += len(batch)
            yield dict(counts)
        yield dict(counts)  # what was unreadable after the last batch counts too

    def _frames(
        self, inputs: str | Path | Sequence[str | Path], camera: str, stride: int, counts: dict[str, int]
    ) -> Iterator[Frame]:
        """Yields the frames of all sources that are not in the gallery yet, and begins each source."""
        gallery = self._gallery()
        for source in list_sources(inputs):
            first = gallery.begin(source, camera)
            number = None
            try:
                for frame in read_frames(source, first, stride):
                    number = frame.number
                    yield frame
            except UnreadableSourceError as error:
                gallery.remove(Where(sources=[source]))
                counts['unreadable'] += 1
                print_log(f'passed over: {error}', 'current', logging.WARNING)
            else:
                if number is None:  # an earlier call was stopped after the last frame
                    gallery.add(source, (), first, complete=True)

    def __call__(
        self,
        queries: str | np.ndarray | Sequence[str | np.ndarray],
        bboxes: Sequence[Sequence[float]] | Sequence[Sequence[Sequence[float]]] | None = None,
        topk: int = 20,
        min_similarity: float | None = None,
        where: Where | None = None,
        best_of: str | None = None,
        same_person: bool = False,
        return_embeddings: bool = False,
        return_vis: bool = False,
        out_dir: str | Path = '',
    ) -> dict[str, list]:
        """Finds persons again.

        Args:
            queries: An image or several, as paths or uint8 (H, W, 3) BGR.
            bboxes: For one image its boxes, for several the boxes of each: x, y, width, height. Without boxes every person
                who is detected is a query.
            topk, min_similarity, where, best_of: As in :meth:`Gallery.search`.
            same_person: All boxes show one person: their mean embedding is the only query.
            return_embeddings: Also return the queries' embeddings.
            return_vis: Also draw each query with its best matches.
            out_dir: Where to write matches.json, matches.csv and matches.png; '' = nowhere.

        Returns:
            ``predictions``: per query a dict with ``query`` (image, bbox, score) and ``matches``: rank, similarity, source,
            frame, time, camera, bbox and score. They can be written as JSON. ``visualization``: per query an RGB picture.

        Raises:
            ValueError: There is no gallery, or the boxes do not fit the images.
            UnreadableSourceError: A query cannot be read.
        """
        gallery = self._gallery()
        asked = list(self._queries(queries, bboxes))
        if same_person and asked:
            images, each, embeddings = zip(*asked, strict=True)
            mean = np.mean(embeddings, axis=0)
            together = dict(images=[query['image'] for query in each], bboxes=[query['bbox'] for query in each])
            asked = [(images[0], together, mean / np.linalg.norm(mean))]
        embeddings = np.array([embedding for *_, embedding in asked]).reshape(-1, gallery.dims)
        results = gallery.search(embeddings, topk, min_similarity, where, best_of)
        predictions = [
            dict(query=query, matches=[as_dict(rank, match) for rank, match in enumerate(matches, 1)])
            | (dict(embedding=embedding.tolist()) if return_embeddings else {})
            for (_, query, embedding), matches in zip(asked, results, strict=True)
        ]
        pictures = self.visualize([image for image, *_ in asked], predictions) if return_vis else []
        if out_dir:
            write_found(predictions, out_dir)
        return self.postprocess(predictions, pictures)

    def _queries(
        self, queries: str | np.ndarray | Sequence[str | np.ndarray], bboxes: Sequence | None
    ) -> Iterator[tuple[np.ndarray, dict[str, Any], np.ndarray]]:
        """Yields each query's image, description and embedding."""
        if isinstance(queries, str | Path | np.ndarray):
            queries, bboxes = [queries], None if bboxes is None else [bboxes]
        if bboxes is not None and len(bboxes) != len(queries):
            raise ValueError(f'bboxes: expected the boxes of {len(queries)} images, got {len(bboxes)}')
        frames = [
            Frame(f'array {number}', 0, 0.0, query) if isinstance(query, np.ndarray) else next(read_frames(str(query)))
            for number, query in enumerate(queries)
        ]
        for number, (frame, sample) in enumerate(self.detect(frames, bboxes)):
            if bboxes is None:
                for each in sightings_of(frame, sample, '', 0.0):
                    assert each.embedding is not None
                    yield frame.image, dict(image=frame.source, bbox=list(each.bbox), score=each.score), each.embedding
            elif len(bboxes[number]):
                for box, embedding in zip(bboxes[number], to_numpy(sample.query_instances.embeddings), strict=True):
                    yield frame.image, dict(image=frame.source, bbox=[float(value) for value in box], score=None), embedding

    def forget(self, query: str | np.ndarray, bbox: Sequence[float], min_similarity: float, dry_run: bool = False) -> int:
        """Removes a person's sightings from the gallery for good; ``dry_run`` only counts them.

        Args:
            query: An image that shows the person.
            bbox: The person: x, y, width, height.
            min_similarity: Sightings that are at least so similar are the person's.

        Returns:
            How many.

        Raises:
            ValueError: There is no gallery.
            UnreadableSourceError: The image cannot be read.
        """
        ((_, _, embedding),) = self._queries(query, [bbox])
        return self._gallery().forget(embedding, min_similarity, dry_run)

    def close(self) -> None:
        """Lets other processes open the gallery's file."""
        if self.gallery is not None:
            self.gallery.close()

    def _gallery(self) -> Gallery:
        if self.gallery is None:
            raise ValueError("gallery: none was given: PersonSearchInferencer(..., gallery='work_dirs/gallery.db')")
        return self.gallery

    def visualize(self, inputs: Sequence[np.ndarray], preds: Sequence[dict[str, Any]]) -> list[np.ndarray]:
        """Draws each query, of which ``inputs`` are the images (H, W, 3) BGR, with its best matches: RGB pictures."""
        return [draw_found([each], [image]) for image, each in zip(inputs, preds, strict=True)]

    def postprocess(self, preds: list[dict[str, Any]], visualization: list[np.ndarray]) -> dict[str, list]:
        """Returns the result of a call."""
        return dict(predictions=preds, visualization=visualization)


def run_ahead(
    function: Callable[[AnyItem], AnyResult], items: Iterable[AnyItem], threads: int, ahead: int
) -> Iterator[AnyResult]:
    """Yields function(item) in order. Threads compute up to ``ahead`` results in advance."""
    with ThreadPoolExecutor(threads) as pool:
        items = iter(items)
        waiting = deque(pool.submit(function, item) for item in itertools.islice(items, ahead))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in itertools.islice(items, 1))


def sightings_of(frame: Frame, sample: DetDataSample, camera: str, time: float) -> list[Sighting]:
    """Returns the persons that were detected in a frame."""
    persons = sample.pred_instances
    corners, scores, embeddings = map(to_numpy, (persons.bboxes, persons.scores, persons.embeddings))
    return [
        Sighting(frame.source, frame.number, time, camera, (x1, y1, x2 - x1, y2 - y1), score, embedding)
        for (x1, y1, x2, y2), score, embedding in zip(corners.tolist(), scores.tolist(), embeddings, strict=True)
    ]


def as_dict(rank: int, match: Match) -> dict[str, Any]:
    """Returns a match as plain values."""
    sighting = {name: getattr(match.sighting, name) for name in FIELDS}
    return dict(rank=rank, similarity=match.similarity, **sighting | dict(bbox=list(match.sighting.bbox)))


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()
