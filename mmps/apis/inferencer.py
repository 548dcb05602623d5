"""Finds persons in images and videos, keeps them in a gallery, and finds a person again."""

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.infer import BaseInferencer
from mmengine.registry import DefaultScope
from torch import nn
from tqdm import tqdm

from mmps.evaluation.context import CBGM
from mmps.fileio.checkpoint import load_exactly, model_fingerprint
from mmps.registry import MODELS, TRANSFORMS, did_you_mean

from .annotate import draw_video
from .appearances import appearances, default_gap
from .context import search_in_context
from .detections import run_ahead
from .exported import ExportedDetector
from .found import draw_found, write_found
from .gallery import Gallery
from .indexing import Indexer
from .queries import one_person, read_queries
from .sightings import Where, as_dict
from .video import Frame, Sampling, list_sources

DECODERS, AHEAD = 2, 8  # threads that prepare images, and how many images they may be ahead


class PersonSearchInferencer(BaseInferencer):
    """Searches persons with a trained model, in the way of MMDetection's ``DetInferencer``.

    ::

        search = PersonSearchInferencer('oim_mobilenetv2.py', 'epoch_3.pth', gallery='work_dirs/gallery.db')
        search.index(['photographs/', 'street.mp4'], stride=10)
        for match in search('query.jpg', bboxes=[[40, 60, 80, 200]])['predictions'][0]['matches']:
            print(match['similarity'], match['source'], match['time'])

    Args:
        model: Path of a config, its name in the model index, a config, or a file ``.onnx`` that ``mmps export`` wrote. 'real'
            is the model for photographs of mmps.
        weights: Path of a checkpoint. Every tensor must fit. Default: those of the model index.
        device: Default: a GPU, if there is one.
        gallery: A :class:`Gallery`'s file or server, for :meth:`index` and searches.
        score_thr: Persons of a lower confidence are not kept. Default: ``score_thr`` of the config, else 0.5.
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
        weights: str | None = None,
        device: str | None = None,
        gallery: str | Path | None = None,
        score_thr: float | None = None,
        height: int | None = None,
        show_progress: bool = True,
    ) -> None:
        self.height = height
        self.model: Any  # a detector, or an ExportedDetector
        if str(model).endswith('.onnx'):
            self._open_exported(str(model), weights, device, show_progress)
        else:
            super().__init__(model, weights, device, scope='mmps', show_progress=show_progress)
            self.embed_dims: int = self.model.memory.embed_dims
        self.score_thr = self.cfg.get('score_thr', 0.5) if score_thr is None else score_thr
        self.gallery: Gallery | None = None
        if gallery is not None:
            self.gallery = Gallery(gallery, self.fingerprint, self.embed_dims)

    def _open_exported(self, path: str, weights: str | None, device: str | None, show_progress: bool) -> None:
        """Does what MMEngine's inferencer does when it begins, with an exported model."""
        self.model = ExportedDetector(path, weights, device, self.height)
        about = self.model.runtime.about
        self.cfg = ConfigDict(score_thr=about.score_thr)
        self.fingerprint, self.embed_dims = about.fingerprint, about.embed_dims
        self.pipeline, self.collate_fn, self.visualizer = self.model.prepare, list, None
        self.show_progress = show_progress

    def _load_model_from_metafile(self, model: str) -> tuple[Config, str | None]:
        """Returns config and weights of a model of the index. MMEngine wants every model there to have weights."""
        root = Path(self._get_repo_or_mim_dir('mmps'))
        index = {name: each for each in self._get_models_from_metafile(root) for name in (each['Name'], *each.get('Alias', ()))}
        if model not in index:
            raise FileNotFoundError(f'{model}: no config, and no model of the index{did_you_mean(model, index)}')
        return Config.fromfile(root / index[model]['Config']), index[model].get('Weights')

    def _init_model(self, cfg: Config, weights: str | None, device: str = 'cpu') -> nn.Module:
        if weights is None:
            raise ValueError('weights: expected a checkpoint: this model does not come with weights')
        with DefaultScope.overwrite_default_scope('mmps'):
            model = MODELS.build(cfg.model)
        load_exactly(model, weights, 'weights')
        self.fingerprint = model_fingerprint(cfg.model, weights, model.state_dict())
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

    def _prepare(self, item: tuple[Frame, Sequence[Sequence[float]]]) -> tuple[Frame, Any]:
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
        fps: float | None = None,
        tracks: bool = False,
        timeout: float = 30.0,
        only_new: bool = False,
        since: float | None = None,
        until: float | None = None,
    ) -> dict[str, int]:
        """Adds everybody in images and videos to the gallery.

        A source that is there already is replaced, unless ``only_new`` is set. After an interruption, a video goes on where it
        was, up to the last batch. What cannot be read is named, counted and passed over.

        Args:
            inputs: Files, folders, patterns, URLs of streams.
            camera: Name of the camera.
            start: Time of the first frame, in seconds, of whatever clock.
            stride: Only every n-th frame of a video.
            batch_size: Images at a time.
            fps: So many frames of a video a second, in place of ``stride``.
            tracks: Add a person in consecutive frames as one record, with the best view and the first and last time.
            timeout: A stream without a frame for so many seconds has ended.
            only_new: Pass over what the gallery has whole, from the same camera with the same settings.
            since, until: Only the frames of a video from this second on, and before this second, whatever ``start`` is.

        Returns:
            Counts: ``sources``, ``frames``, ``persons`` and ``unreadable``.

        Raises:
            ValueError: There is no gallery, or an argument is out of range.
        """
        indexer = Indexer(self._gallery(), camera, start, Sampling(stride, fps, timeout, since, until), tracks, only_new)
        with tqdm(unit='frame', disable=not self.show_progress) as bar:
            for counts in self.index_batches(inputs, indexer, batch_size):
                bar.update(counts['frames'] - bar.n)
                bar.set_postfix(persons=counts['persons'], refresh=False)
        return counts

    def index_batches(
        self, inputs: str | Path | Sequence[str | Path], indexer: Indexer, batch_size: int = 1
    ) -> Generator[dict[str, int], None, None]:
        """As :meth:`index`, and yields the counts after every batch. Whoever stops taking them stops the indexing there."""
        found = self.detect(indexer.frames(list_sources(inputs)), batch_size=batch_size)
        try:
            while batch := list(itertools.islice(found, batch_size)):
                indexer.add(batch)
                yield dict(indexer.counts)
            yield dict(indexer.counts)  # what was unreadable after the last batch counts too
        finally:
            indexer.gallery.flush()

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
        gap: float | None = None,
        cbgm: bool | CBGM = False,
        at: float | None = None,
    ) -> dict[str, list]:
        """Finds persons again.

        Args:
            queries: An image or several, as paths or uint8 (H, W, 3) BGR. Of a video its first frame.
            bboxes: For one image its boxes, for several the boxes of each: x, y, width, height. Without boxes every person
                who is detected is a query.
            topk, min_similarity, where, best_of: As in :meth:`Gallery.search`.
            same_person: All boxes show one person: their mean embedding is the only query.
            return_embeddings: Also return the queries' embeddings.
            return_vis: Also draw each query with its best matches.
            out_dir: Where to write matches.json, matches.csv and matches.png; '' = nowhere.
            gap: Matches of a source further apart than so many seconds are two appearances. Default: two seconds, or three
                times the interval between the frames that were indexed, whichever is longer.
            cbgm: Re-rank by the people around the query and around each match (context bipartite graph matching).
            at: The queries are videos; each shows the person at this second.

        Returns:
            ``predictions``: per query a dict with ``query`` (image, frame, bbox, score), ``matches`` (rank, similarity, source,
            frame, time, camera, bbox, score, since, until) and ``appearances``, as from :func:`appearances`. They can be
            written as JSON. ``visualization``: per query an RGB picture.

        Raises:
            ValueError: There is no gallery, a box is not in its image, ``best_of`` with ``cbgm``, or ``at`` without a video.
            UnreadableSourceError: A query cannot be read.
        """
        gallery = self._gallery()
        asked = list(read_queries(self.detect, queries, bboxes, at))
        if same_person and asked:
            asked = [one_person(asked)]
        if cbgm:
            if best_of is not None:
                raise ValueError(f'best_of: expected None with cbgm, got {best_of!r}')
            settings = cbgm if isinstance(cbgm, CBGM) else CBGM()
            results = [
                search_in_context(gallery, each.embedding, each.scene, settings, topk, min_similarity, where) for each in asked
            ]
        else:
            embeddings = np.array([each.embedding for each in asked]).reshape(-1, gallery.dims)
            results = gallery.search(embeddings, topk, min_similarity, where, best_of)
        found = [[as_dict(rank, match) for rank, match in enumerate(matches, 1)] for matches in results]
        sources = {match['source'] for matches in found for match in matches}
        gaps = {source: default_gap(gallery.source(source)['interval']) if gap is None else gap for source in sources}
        predictions = [
            dict(query=query.about, matches=matches, appearances=appearances(matches, gaps))
            | (dict(embedding=query.embedding.tolist()) if return_embeddings else {})
            for query, matches in zip(asked, found, strict=True)
        ]
        pictures = self.visualize([query.image for query in asked], predictions) if return_vis else []
        if out_dir:
            write_found(predictions, out_dir)
        return self.postprocess(predictions, pictures)

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
        (asked,) = read_queries(self.detect, query, [bbox])
        return self._gallery().forget(asked.embedding, min_similarity, dry_run)

    def draw_video(self, source: str, prediction: Mapping[str, Any], out: str | Path) -> None:
        """Writes a video of the gallery with the found person's box, as :func:`mmps.apis.annotate.draw_video`."""
        about = self._gallery().source(source)
        draw_video(source, prediction, out, about['interval'], about['settings']['start'])

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
