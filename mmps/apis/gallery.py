"""A gallery in Milvus: the embeddings of persons, with where and when each was seen.

Q queries, D the embedding size. Similarities are cosines, because embeddings have unit length.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import ConnectionConfigException, MilvusException

from .sightings import FIELDS, Match, Sighting, Where, quoted

PERSONS, NOTES = 'persons', 'notes'  # Milvus collections; a note is one of the gallery's own records
FORMAT = 1
MOST = 16384  # rows that Milvus returns at once
EXACT_UP_TO = 50_000  # persons; more are searched with HNSW


class OtherModelError(ValueError):
    """The gallery belongs to another model, whose embeddings do not compare."""


class GalleryInUseError(OSError):
    """Another process has the gallery open."""


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
        GalleryInUseError: Another process has the file open.
        FileNotFoundError: There is no gallery, and no model to make one for.
        ConnectionError: The server does not answer.
        ValueError: ``uri`` is neither.
    """

    def __init__(self, uri: str | Path, model: str | None = None, dims: int | None = None) -> None:
        self.uri = str(uri)
        is_server = '://' in self.uri
        if not is_server and not self.uri.endswith('.db'):
            raise ValueError(f'{self.uri}: expected a file name that ends in .db, or http://host:19530')
        if model is None and not is_server and not Path(self.uri).exists():
            raise FileNotFoundError(f'{self.uri}: there is no gallery')
        Path('.' if is_server else self.uri).parent.mkdir(parents=True, exist_ok=True)
        try:
            self.client = MilvusClient(self.uri)
        except ConnectionConfigException as error:
            raise GalleryInUseError(
                f'{self.uri}: another process has this gallery open; a Milvus server serves many'
            ) from error
        except MilvusException as error:
            raise ConnectionError(f'{self.uri}: no Milvus server answers there') from error
        if not self.client.has_collection(NOTES):
            if model is None or dims is None:
                raise FileNotFoundError(f'{self.uri}: there is no gallery')
            self._create(model, dims)
        for collection in (NOTES, PERSONS):
            self.client.load_collection(collection)
        about = self._note('about')
        if model is not None and model != about['model']:
            raise OtherModelError(
                f'{self.uri}: the gallery belongs to the model {about["model"]}, and this is {model}: their embeddings do not '
                'compare; make another gallery'
            )
        self.model: str = about['model']
        self.dims: int = about['dims']

    def _create(self, model: str, dims: int) -> None:
        schema = self.client.create_schema(auto_id=True, enable_dynamic_field=False)
        schema.add_field('id', DataType.INT64, is_primary=True)
        schema.add_field('embedding', DataType.FLOAT_VECTOR, dim=dims)
        schema.add_field('source', DataType.VARCHAR, max_length=4096)
        schema.add_field('frame', DataType.INT64)
        schema.add_field('time', DataType.DOUBLE)
        schema.add_field('camera', DataType.VARCHAR, max_length=256)
        schema.add_field('bbox', DataType.ARRAY, element_type=DataType.FLOAT, max_capacity=4)
        schema.add_field('score', DataType.FLOAT)
        self.client.create_collection(PERSONS, schema=schema, index_params=self._index('FLAT'))
        notes = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
        notes.add_field('name', DataType.VARCHAR, is_primary=True, max_length=4096)
        notes.add_field('value', DataType.VARCHAR, max_length=4096)
        notes.add_field('unused', DataType.FLOAT_VECTOR, dim=2)  # Milvus wants a vector in every collection
        index = self.client.prepare_index_params()
        index.add_index('unused', index_type='FLAT', metric_type='L2')
        self.client.create_collection(NOTES, schema=notes, index_params=index)
        self._write_note('about', dict(format=FORMAT, model=model, dims=dims, index='FLAT'))

    def _index(self, kind: str) -> Any:
        index = self.client.prepare_index_params()
        params = dict(M=16, efConstruction=200) if kind == 'HNSW' else {}
        index.add_index('embedding', index_type=kind, metric_type='IP', params=params)
        return index

    def _note(self, name: str) -> dict[str, Any]:
        found = self.client.query(NOTES, filter=f'name == {quoted(name)}', output_fields=['value'])
        return json.loads(found[0]['value']) if found else {}

    def _write_note(self, name: str, value: dict[str, Any]) -> None:
        self.client.upsert(NOTES, [dict(name=name, value=json.dumps(value), unused=[0.0, 0.0])])

    def __len__(self) -> int:
        return self.count()

    def count(self, where: Where | None = None) -> int:
        """Returns the number of persons."""
        expression = (where or Where()).expression() or 'frame >= 0'
        return int(self.client.query(PERSONS, filter=expression, output_fields=['count(*)'])[0]['count(*)'])

    def sources(self) -> Iterator[dict[str, Any]]:
        """Yields ``source``, ``camera``, ``next_frame`` and ``complete`` of every source, in the order of their names."""
        last = 'source:'
        while found := sorted(
            self.client.query(
                NOTES, filter=f'name > {quoted(last)} and name < "source;"', output_fields=['name', 'value'], limit=MOST
            ),
            key=lambda row: row['name'],
        ):
            for row in found:
                yield {'source': row['name'].removeprefix('source:'), **json.loads(row['value'])}
            last = found[-1]['name']
            if len(found) < MOST:
                return

    def begin(self, source: str, camera: str = '') -> int:
        """Begins or goes on with a source. One that is complete, or of another camera, is removed first: it is replaced.

        Returns:
            The first frame that is to be added.
        """
        note = self._note(f'source:{source}')
        goes_on = bool(note) and not note['complete'] and note['camera'] == camera
        next_frame = note['next_frame'] if goes_on else 0
        # A kill may have left persons of a batch that was not noted.
        self._delete(f'source == {quoted(source)} and frame >= {next_frame}')
        self._write_note(f'source:{source}', dict(camera=camera, next_frame=next_frame, complete=False))
        return next_frame

    def add(self, source: str, sightings: Sequence[Sighting], next_frame: int, complete: bool = False) -> None:
        """Adds a batch of a source's persons. All its frames before ``next_frame`` are then done.

        Raises:
            ValueError: The source was not begun, or a sighting is of another source or has no embedding of D numbers.
        """
        note = self._note(f'source:{source}')
        if not note:
            raise ValueError(f'{source}: not begun')
        rows = []
        for each in sightings:
            if each.source != source or each.embedding is None or each.embedding.shape != (self.dims,):
                raise ValueError(f'{each.source}: expected a person of {source} with an embedding of {self.dims} numbers')
            row = {name: getattr(each, name) for name in FIELDS}
            rows.append(row | dict(bbox=[float(v) for v in each.bbox], embedding=each.embedding.astype(np.float32)))
        if rows:
            self.client.insert(PERSONS, rows)
        self._write_note(f'source:{source}', note | dict(next_frame=next_frame, complete=complete))
        if complete:
            self._grow()

    def _grow(self) -> None:
        """Changes to HNSW when the gallery gets large."""
        about = self._note('about')
        if about['index'] == 'FLAT' and len(self) > EXACT_UP_TO:
            self.build_index('HNSW')

    def build_index(self, kind: str) -> None:
        """Builds another index: 'FLAT' (exact) or 'HNSW'."""
        self.client.release_collection(PERSONS)
        self.client.drop_index(PERSONS, 'embedding')
        self.client.create_index(PERSONS, self._index(kind))
        self.client.load_collection(PERSONS)
        self._write_note('about', self._note('about') | dict(index=kind))

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
        found = self.client.search(
            PERSONS,
            data=list(embeddings.astype(np.float32)),
            limit=topk,
            filter=(where or Where()).expression(),
            output_fields=list(FIELDS),
            search_params=dict(metric_type='IP', params=dict(ef=max(128, 2 * topk))),
            **(dict(group_by_field=best_of) if best_of else {}),
        )
        return [
            [
                Match(float(hit['distance']), _sighting(hit['entity']))
                for hit in hits
                if min_similarity is None or hit['distance'] >= min_similarity
            ]
            for hits in found
        ]

    def sightings(self, where: Where, frame: int | None = None) -> list[Sighting]:
        """Returns up to 16,384 persons with their embeddings, those of the earliest frames first.

        Args:
            where: Which sightings count.
            frame: Only those of this frame.
        """
        terms = [where.expression() or 'frame >= 0', *([f'frame == {int(frame)}'] if frame is not None else [])]
        rows = self.client.query(PERSONS, filter=' and '.join(terms), output_fields=[*FIELDS, 'embedding', 'id'], limit=MOST)
        rows.sort(key=lambda row: (row['source'], row['frame'], row['id']))
        return [replace(_sighting(row), embedding=np.array(row['embedding'], np.float32)) for row in rows]

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
            if gone:
                self.client.delete(NOTES, ids=gone)
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
        return len(ids)

    def _delete(self, expression: str) -> int:
        count = int(self.client.query(PERSONS, filter=expression, output_fields=['count(*)'])[0]['count(*)'])
        if count:
            self.client.delete(PERSONS, filter=expression)
        return count

    def close(self) -> None:
        """Lets other processes open the file."""
        self.client.close()

    def __enter__(self) -> 'Gallery':
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _sighting(row: dict[str, Any]) -> Sighting:
    return Sighting(**{name: row[name] for name in FIELDS} | dict(bbox=tuple(row['bbox'])))
