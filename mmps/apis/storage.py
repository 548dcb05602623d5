"""How a gallery lies in Milvus: its connection, its two collections and its index.

``persons`` has a row per person. ``notes`` has the gallery's own records by name: about the gallery, and about each source.
"""

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import ConnectionConfigException, MilvusException

from mmps.compat.milvus_lite import skip_hopeless_rows

from .sightings import FIELDS, quoted

FORMAT = 2
PERSONS, NOTES = 'persons', 'notes'
for name in ('pymilvus.decorators', 'milvus_lite.adapter'):  # they log the tracebacks of errors that they raise
    logging.getLogger(name).setLevel(logging.CRITICAL)
# Milvus Lite searches what is not on disk yet at 20 microseconds a person: some 3,500 persons, and not 100,000 as by default.
os.environ.setdefault('MILVUS_LITE_MEMTABLE_MEMORY_LIMIT_BYTES', '4000000')
MOST = 16384  # rows that Milvus returns at once
STALE = 10.0  # seconds: a bounded read lacks at most what was written in the last five, if the server has its defaults
INDEXES = {'FLAT': {}, 'HNSW': dict(M=16, efConstruction=200)}


class OtherModelError(ValueError):
    """The gallery belongs to another model, whose embeddings do not compare."""


class OldGalleryError(ValueError):
    """Another version of mmps made the gallery."""


class GalleryInUseError(OSError):
    """Another process has the gallery open."""


class GalleryFailedError(OSError):
    """The gallery cannot be read or written: the disk is full, or the server went away. What was added before is kept."""


class Client:
    """Milvus's client, whose errors are those of the system, with the gallery's name, in one line."""

    def __init__(self, uri: str) -> None:
        # Milvus Lite refuses the client's pings during a pause, and gRPC says so in the terminal. A file needs none.
        options = {} if '://' in uri else {'grpc.keepalive_permit_without_calls': 0, 'grpc.keepalive_time_ms': 2**31 - 1}
        self._uri, self._client = uri, MilvusClient(uri, grpc_options=options)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def call(*arguments: Any, **options: Any) -> Any:
            try:
                return method(*arguments, **options)
            except MilvusException as error:
                raise GalleryFailedError(f'{self._uri}: {error.message}; what was added before is kept') from error

        return call


def connect(uri: str, must_exist: bool) -> Client:
    """Opens a file of Milvus Lite, or a server.

    Raises:
        GalleryInUseError: Another process has the file open.
        FileNotFoundError: There is no file, and there must be one.
        ConnectionError: The server does not answer.
        ValueError: ``uri`` is neither.
    """
    is_server = '://' in uri
    if not is_server and not uri.endswith('.db'):
        raise ValueError(f'{uri}: expected a file name that ends in .db, or http://host:19530')
    if must_exist and not is_server and not Path(uri).exists():
        raise FileNotFoundError(f'{uri}: there is no gallery')
    Path('.' if is_server else uri).parent.mkdir(parents=True, exist_ok=True)
    if not is_server:
        skip_hopeless_rows(('id', 'embedding', *FIELDS))  # the gallery never upserts a person
    try:
        return Client(uri)
    except ConnectionConfigException as error:
        raise GalleryInUseError(f'{uri}: another process has this gallery open; a Milvus server serves many') from error
    except MilvusException as error:
        raise ConnectionError(f'{uri}: no Milvus server answers there') from error


def create_collections(client: Client, dims: int) -> None:
    """Makes the empty collections for embeddings of size ``dims``; what an interrupted making left goes."""
    for collection in (PERSONS, NOTES):
        client.drop_collection(collection)
    schema = client.create_schema(auto_id=True, enable_dynamic_field=False)
    schema.add_field('id', DataType.INT64, is_primary=True)
    schema.add_field('embedding', DataType.FLOAT_VECTOR, dim=dims)
    schema.add_field('source', DataType.VARCHAR, max_length=4096)
    schema.add_field('frame', DataType.INT64)
    for name in ('time', 'since', 'until'):
        schema.add_field(name, DataType.DOUBLE)
    schema.add_field('camera', DataType.VARCHAR, max_length=256)
    schema.add_field('bbox', DataType.ARRAY, element_type=DataType.FLOAT, max_capacity=4)
    schema.add_field('score', DataType.FLOAT)
    # Strong: what was written is read. A server's default may show a gallery that is seconds old.
    client.create_collection(PERSONS, schema=schema, index_params=vector_index(client, 'FLAT'), consistency_level='Strong')
    notes = client.create_schema(auto_id=False, enable_dynamic_field=False)
    notes.add_field('name', DataType.VARCHAR, is_primary=True, max_length=8192)
    notes.add_field('value', DataType.VARCHAR, max_length=8192)
    notes.add_field('unused', DataType.FLOAT_VECTOR, dim=2)  # Milvus wants a vector in every collection
    index = client.prepare_index_params()
    index.add_index('unused', index_type='FLAT', metric_type='L2')
    client.create_collection(NOTES, schema=notes, index_params=index, consistency_level='Strong')


def check(about: dict[str, Any], uri: str, model: str | None) -> None:
    """Raises an error if a gallery has another format, or belongs to another model than this one (None = any)."""
    if about['format'] != FORMAT:
        raise OldGalleryError(
            f'{uri}: the gallery has format {about["format"]}, and this mmps reads {FORMAT}: make another gallery'
        )
    if model is not None and model != about['model']:
        raise OtherModelError(
            f'{uri}: the gallery belongs to the model {about["model"]}, and this is {model}: their embeddings do not compare; '
            'make another gallery'
        )


def load_persons(client: Client, index: str) -> None:
    """Makes the persons ready for searches. Builds the index if there is none: its building was interrupted."""
    if not client.list_indexes(PERSONS, field_name='embedding'):
        client.create_index(PERSONS, vector_index(client, index))
    client.load_collection(PERSONS)


def vector_index(client: Client, kind: str) -> Any:
    """Returns the parameters of an index of :data:`INDEXES`."""
    index = client.prepare_index_params()
    index.add_index('embedding', index_type=kind, metric_type='IP', params=INDEXES[kind])
    return index


def consistency(written: float) -> str:
    """Returns how a server has to read what this client wrote at a time. To be sure of the last seconds costs it 0.2 s."""
    return 'Strong' if monotonic() - written < STALE else 'Bounded'


class Notes:
    """The gallery's own records: plain values by name."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.opened = monotonic()
        self.recent: dict[str, tuple[float, dict[str, Any]]] = {}  # what was written in the last seconds, the oldest first

    def __getitem__(self, name: str) -> dict[str, Any]:
        """Returns a record; an empty one where there is none."""
        if name in self.recent:
            return dict(self.recent[name][1])
        # In this form Milvus Lite looks a key up, and does not go through all records.
        found = self.client.query(
            NOTES,
            filter=f'name in {quoted([name])}',
            output_fields=['value'],
            consistency_level=consistency(self.opened),
        )
        return json.loads(found[0]['value']) if found else {}

    def __setitem__(self, name: str, value: dict[str, Any]) -> None:
        self.client.upsert(NOTES, [dict(name=name, value=json.dumps(value), unused=[0.0, 0.0])])
        self._remember(name, value)

    def _remember(self, name: str, value: dict[str, Any]) -> None:
        self.recent.pop(name, None)
        self.recent[name] = monotonic(), dict(value)
        while monotonic() - next(iter(self.recent.values()))[0] > STALE:
            del self.recent[next(iter(self.recent))]

    def of_kind(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields what follows ``KIND:`` in a record's name, and the record, in the order of the names."""
        last, end = f'{kind}:', f'{kind};'  # ; is the character after :
        while True:
            expression = f'name > {quoted(last)} and name < {quoted(end)}'
            found = self.client.query(NOTES, filter=expression, output_fields=['name', 'value'], limit=MOST)
            for row in sorted(found, key=lambda row: row['name']):
                last = row['name']
                yield last.removeprefix(f'{kind}:'), json.loads(row['value'])
            if len(found) < MOST:
                return

    def remove(self, names: Sequence[str]) -> None:
        """Removes records."""
        if names:
            self.client.delete(NOTES, ids=list(names))
        for name in names:
            self._remember(name, {})
