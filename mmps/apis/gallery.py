"""A gallery in Milvus: the embeddings of persons, with where and when each was seen.

Q queries, D the embedding size. Similarities are cosines, because embeddings have unit length.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from .sightings import FIELDS, Match, Sighting, Where, quoted
from .storage import FORMAT, INDEXES, MOST, NOTES, PERSONS, Notes, check, connect, consistency, create_collections, load_persons

EXACT_UP_TO = 50_000  # persons; a server searches more with HNSW


class Gallery:
    """Persons that one model has found, in a local file (Milvus Lite) or on a Milvus server.

    A source is an image or a video. It is added frame by frame, and how far it has come is kept with it: after a kill it goes
    on there, and no person is there twice. The file serves one process at a time; a server serves many.

    Args:
        uri: A file name ending in .db, which is made if it does not exist, or ``http://host:19530``.
        model: Fingerprint of the model whose embeddings these are. None = whatever is there, for looking at it.
        dims: D. Needed for a new gallery.

    Raises:
        OtherModelError: The gallery belongs to another model.
        OldGalleryError: It was made by a version of mmps that keeps other fields.
        GalleryInUseError: Another process has the file open.
        GalleryFailedError: It cannot be read or written, as in all methods.
        FileNotFoundError: There is no gallery, and no model to make one for.
        ConnectionError: The server does not answer.
        ValueError: ``uri`` is neither.
    """

    def __init__(self, uri: str | Path, model: str | None = None, dims: int | None = None) -> None:
        self.uri = str(uri)
        self.client = connect(self.uri, must_exist=model is None)
        self.notes = Notes(self.client)
        about: dict[str, Any] = {}
        if self.client.has_collection(NOTES):
            self.client.load_collection(NOTES)
            about = self.notes['about']
        if not about:  # or its making was interrupted
            if model is None or dims is None:
                raise FileNotFoundError(f'{self.uri}: there is no gallery')
            create_collections(self.client, dims)
            about = self.notes['about'] = dict(format=FORMAT, model=model, dims=dims, index='FLAT')
        check(about, self.uri, model)
        load_persons(self.client, about['index'])
        self.written = monotonic()
        self.model: str = about['model']
        self.dims: int = about['dims']

    def __len__(self) -> int:
        return self.count()

    def count(self, where: Where | None = None) -> int:
        """Returns the number of persons."""
        return self._count((where or Where()).expression())

    def sources(self) -> Iterator[dict[str, Any]]:
        """Yields ``source`` and what :meth:`source` returns, of every source, in the order of their names."""
        for source, note in self.notes.of_kind('source'):
            yield {'source': source, **note}

    def next_frame(self, source: str, camera: str = '', settings: Mapping[str, Any] | None = None) -> int:
        """Returns the first frame of a source that is to be added, if it is begun: 0 if it will be replaced."""
        note = self.notes[f'source:{source}']
        return note['next_frame'] if note and not note['complete'] and _is_same(note, camera, settings) else 0

    def is_complete(self, source: str, camera: str = '', settings: Mapping[str, Any] | None = None) -> bool:
        """Tells whether a source is whole in the gallery, of this camera and with these settings."""
        note = self.notes[f'source:{source}']
        return bool(note) and note['complete'] and _is_same(note, camera, settings)

    def begin(self, source: str, camera: str = '', settings: Mapping[str, Any] | None = None) -> int:
        """Begins or goes on with a source. One that is complete, of another camera or with other settings is replaced.

        Args:
            settings: How frames become sightings, as plain values.

        Returns:
            The first frame that is to be added.
        """
        next_frame = self.next_frame(source, camera, settings)
        if self.notes[f'source:{source}']:  # a kill may have left persons of a batch that was not noted
            self._delete(f'source == {quoted(source)} and frame >= {next_frame}')
        note = dict(camera=camera, next_frame=next_frame, complete=False, settings=dict(settings or {}), interval=0.0)
        self.notes[f'source:{source}'] = note
        return next_frame

    def source(self, name: str) -> dict[str, Any]:
        """Returns ``camera``, ``next_frame``, ``complete``, ``settings`` and ``interval`` of a source.

        The interval is the mean of seconds between two frames that were added, 0 for an image.

        Raises:
            KeyError: The gallery has no such source.
        """
        if not (note := self.notes[f'source:{name}']):
            raise KeyError(name)
        return note

    def add(
        self,
        source: str,
        sightings: Sequence[Sighting],
        next_frame: int,
        complete: bool = False,
        interval: float | None = None,
    ) -> None:
        """Adds a batch of a source's persons. All its frames before ``next_frame`` are then done.

        Args:
            source: A source that was begun.
            sightings: Its persons, with embeddings.
            next_frame: The first frame that is not done.
            complete: Whether the source ends here.
            interval: Seconds between two frames that are added. None = as before.

        Raises:
            ValueError: The source was not begun, or a sighting is of another source or has no embedding of D numbers.
        """
        note = self.notes[f'source:{source}']
        if not note:
            raise ValueError(f'{source}: not begun')
        rows = []
        for each in sightings:
            if each.source != source or each.embedding is None or each.embedding.shape != (self.dims,):
                raise ValueError(f'{each.source}: expected a person of {source} with an embedding of {self.dims} numbers')
            rows.append(each.as_row())
        if rows:
            self.client.insert(PERSONS, rows)
            self.written = monotonic()
        note |= dict(next_frame=next_frame, complete=complete)
        self.notes[f'source:{source}'] = note if interval is None else note | dict(interval=interval)

    def flush(self) -> None:
        """Ends an adding. Milvus Lite searches slowly what was not flushed. A server's gallery that got large gets HNSW."""
        self.client.flush(PERSONS)
        about = self.notes['about']
        if '://' in self.uri and about['index'] == 'FLAT' and not about.get('chosen') and len(self) > EXACT_UP_TO:
            self._build_index('HNSW')

    def build_index(self, kind: str) -> None:
        """Builds another index on a server, which stays whatever the size. If that fails, opening the gallery goes on with it.

        Args:
            kind: 'FLAT' (exact) or 'HNSW'.

        Raises:
            ValueError: The gallery is a file, which is always searched exactly, or there is no such index.
        """
        if '://' not in self.uri or kind not in INDEXES:
            raise ValueError(f'{self.uri}: expected a server and one of {", ".join(INDEXES)}, got {kind!r}; a file is exact')
        self.client.flush(PERSONS)
        self._build_index(kind, chosen=True)

    def _build_index(self, kind: str, chosen: bool = False) -> None:
        self.notes['about'] = self.notes['about'] | dict(index=kind, chosen=chosen)
        self.client.release_collection(PERSONS)
        self.client.drop_index(PERSONS, 'embedding')
        load_persons(self.client, kind)

    def search(
        self,
        embeddings: np.ndarray,
        topk: int = 20,
        min_similarity: float | None = None,
        where: Where | None = None,
        best_of: str | None = None,
    ) -> list[list[Match]]:
        """Returns the most similar persons of each query, the most similar first.

        Args:
            embeddings: (Q, D), unit length.
            topk: How many at most, up to 16,384.
            min_similarity: Less similar ones are left out.
            where: Which sightings count.
            best_of: 'source' or 'camera': only the best match of each.

        Raises:
            ValueError: An argument is out of range.
        """
        if not 1 <= topk <= MOST:
            raise ValueError(f'topk: expected 1 to {MOST}, got {topk}')
        if embeddings.ndim != 2 or embeddings.shape[1] != self.dims:
            raise ValueError(f'embeddings: expected (Q, {self.dims}), got {embeddings.shape}')
        if best_of not in (None, 'source', 'camera'):
            raise ValueError(f"best_of: expected 'source' or 'camera', got {best_of!r}")
        if not len(embeddings):
            return []
        expression = (where or Where()).expression()
        if best_of is None:
            found = self._hits(embeddings, topk, expression)
        else:
            found = [self._best_of_each(each, topk, expression, best_of) for each in embeddings]
        return [
            [
                Match(float(hit['distance']), Sighting.from_row(hit['entity']))
                for hit in hits
                if min_similarity is None or hit['distance'] >= min_similarity
            ]
            for hits in found
        ]

    def _hits(self, embeddings: np.ndarray, topk: int, expression: str, **options: Any) -> list[list[dict[str, Any]]]:
        return self.client.search(
            PERSONS,
            data=list(embeddings.astype(np.float32)),
            limit=topk,
            filter=expression,
            output_fields=list(FIELDS),
            search_params=dict(metric_type='IP', params=dict(ef=max(512, 2 * topk))),
            consistency_level=consistency(self.written),
            **options,
        )

    def _best_of_each(self, embedding: np.ndarray, topk: int, expression: str, field: str) -> list[dict[str, Any]]:
        """Milvus groups some of the best rows only. So it is asked again, without the groups that it has found."""
        hits: list[dict[str, Any]] = []
        while len(hits) < topk:
            others = f'{field} not in {quoted([hit["entity"][field] for hit in hits])}' if hits else ''
            terms = ' and '.join(filter(None, [expression, others]))
            more = self._hits(embedding[None], topk - len(hits), terms, group_by_field=field)[0]
            if not more:
                break
            hits += more
        return hits

    def sightings(self, where: Where, frame: int | None = None) -> list[Sighting]:
        """Returns up to 16,384 persons with their embeddings, those of the earliest frames first.

        Args:
            where: Which sightings count.
            frame: Only those of this frame.
        """
        terms = [where.expression() or 'frame >= 0', *([f'frame == {int(frame)}'] if frame is not None else [])]
        rows = self.client.query(PERSONS, filter=' and '.join(terms), output_fields=[*FIELDS, 'embedding', 'id'], limit=MOST)
        rows.sort(key=lambda row: (row['source'], row['frame'], row['id']))
        return [Sighting.from_row(row) for row in rows]

    def frames(self, source: str) -> list[int]:
        """Returns the numbers of a source's frames in which somebody was found, in order."""
        found: set[int] = set()
        last = -1
        while rows := self.client.query(
            PERSONS, filter=f'source == {quoted(source)} and id > {last}', output_fields=['frame', 'id'], limit=MOST
        ):
            found.update(row['frame'] for row in rows)
            last = max(row['id'] for row in rows)
        return sorted(found)

    def remove(self, where: Where) -> int:
        """Removes persons for good. Sources are removed with their progress, unless only some of their persons are.

        Returns:
            How many persons were removed.

        Raises:
            ValueError: ``where`` has no condition.
        """
        if not where.expression():
            raise ValueError('remove: expected a condition; to remove everything delete the gallery')
        removed = self._delete(where.expression())
        if where == Where(where.cameras, where.sources):
            gone = [
                f'source:{each["source"]}'
                for each in self.sources()
                if (not where.cameras or each['camera'] in where.cameras)
                and (not where.sources or each['source'] in where.sources)
            ]
            self.notes.remove(gone)
        return removed

    def forget(self, embedding: np.ndarray, min_similarity: float, dry_run: bool = False) -> int:
        """Removes every sighting that is at least so similar to an embedding (D,); ``dry_run`` only counts them.

        Returns:
            How many.

        Raises:
            ValueError: ``min_similarity`` is not between -1 and 1.
        """
        if not -1 <= min_similarity <= 1:
            raise ValueError(f'min_similarity: expected -1 to 1, got {min_similarity}')
        ids: list[int] = []
        while True:
            hits = self.client.search(
                PERSONS,
                data=[embedding.astype(np.float32)],
                limit=MOST,
                filter=f'id not in {ids}' if ids else '',
                search_params=dict(metric_type='IP', params=dict(ef=MOST)),
            )[0]
            found = [hit['id'] for hit in hits if hit['distance'] >= min_similarity]
            ids += found
            if len(found) < MOST:
                break
        if ids and not dry_run:
            self.client.delete(PERSONS, ids=ids)
            self.written = monotonic()
        return len(ids)

    def _count(self, expression: str) -> int:
        return int(self.client.query(PERSONS, filter=expression, output_fields=['count(*)'])[0]['count(*)'])

    def _delete(self, expression: str) -> int:
        if count := self._count(expression):
            self.client.delete(PERSONS, filter=expression)
            self.written = monotonic()
        return count

    def close(self) -> None:
        """Lets other processes open the file."""
        self.client.close()

    def __enter__(self) -> 'Gallery':
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_same(note: Mapping[str, Any], camera: str, settings: Mapping[str, Any] | None) -> bool:
    return note['camera'] == camera and note['settings'] == dict(settings or {})
