"""Ranks detections by similarity and computes mAP and top-k.

G images, Q queries, T targets, N detections over all images, B queries in a block, D embedding size.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from .boxes import joined_ranges
from .candidates import Candidates, match_targets, multipliable
from .context import CBGM, largest
from .predictions import Predictions
from .protocol import SearchProtocol
from .search import RankedDetections, Search, SearchResult
from .similarity import NumPyProduct, SimilarityBlocks

REVISED_BYTES = 32 << 20  # size of the similarities copied at once for re-ranking
COUNTED = 8  # up to this number of ranks, counting is faster than sorting


def search_scores(
    protocol: SearchProtocol,
    boxes: Sequence[np.ndarray],
    scores: Sequence[np.ndarray],
    embeddings: Sequence[np.ndarray],
    query_embeddings: np.ndarray,
    score_thr: float = 0.5,
    topk: Sequence[int] = (1, 5, 10),
    cameras: str | int = 'all',
    cbgm: CBGM | None = None,
    contexts: Sequence[np.ndarray] | None = None,
) -> SearchResult:
    """Scores a search by the field's rules (CUHK-SYSU's evaluation, as in SeqNet).

    Every detection of score >= score_thr in a query's gallery is ranked by its dot product with the query. In an image that
    holds the target, the most similar detection that overlaps it enough is the only true positive; all others are negative.
    AP is the average precision over that ranking, times the recall of targets. Equal similarities rank in gallery order. A
    query without targets scores AP 0, as usual in the field, and so does a query that finds none of its targets.

    Args:
        protocol: Queries, galleries and targets.
        boxes: For each of the G images its detections (N_i, 4), x1 y1 x2 y2 in original-image pixels.
        scores: (N_i,) each.
        embeddings: (N_i, D) each.
        query_embeddings: (Q, D).
        cameras, cbgm: As in :class:`Search`.
        contexts: For CBGM the embeddings (P, D) of the people around each query, the most confident first. ``None``: the
            detections of the query's image.

    Returns:
        Fractions in 0..1. Memory beyond the inputs is less than 1 GiB, whatever the size of the gallery.

    Raises:
        ValueError: Arrays that do not fit the protocol, or embeddings that are not finite.
    """
    search = Search(protocol, cameras=cameras, cbgm=cbgm)
    query_embeddings = _query_embeddings(search, query_embeddings)
    candidates = Candidates.from_lists(protocol, boxes, scores, embeddings, query_embeddings.shape[1], score_thr)
    return score_searches({'': search}, candidates, query_embeddings, topk, contexts)['']


def score_searches(
    searches: Mapping[str, Search],
    candidates: Candidates,
    query_embeddings: np.ndarray,
    topk: Sequence[int] = (1, 5, 10),
    contexts: Sequence[np.ndarray] | None = None,
    product: NumPyProduct | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict[str, SearchResult]:
    """Scores several searches of the same detections. Similarities are computed only once.

    Args:
        searches: The searches by name. Their protocols have the same images.
        candidates: The detections of these images.
        query_embeddings: (R, D), finite.
        contexts: R entries, as in :func:`search_scores`.
        product: Computes similarities; by default with NumPy.
        progress: Wraps the iteration over blocks, such as tqdm.

    Returns:
        The result of each search, as from :func:`search_scores`.
    """
    for search in searches.values():
        query_embeddings = _query_embeddings(search, query_embeddings)
    rankings = {name: _Ranking(search, candidates, contexts) for name, search in searches.items()}
    asked = np.unique(np.concatenate([ranking.rows for ranking in rankings.values()]))
    for rows, similarities in progress(SimilarityBlocks(candidates, query_embeddings, asked, product)):
        for ranking in rankings.values():
            ranking.add(rows, similarities)
    return {name: ranking.result(topk) for name, ranking in rankings.items()}


def upper_bound(
    protocol: SearchProtocol,
    predictions: Predictions,
    topk: Sequence[int] = (1, 5, 10),
    cameras: str | int = 'all',
    product: NumPyProduct | None = None,
) -> SearchResult:
    """Scores a search among the annotated boxes, that is, with perfect detection.

    Raises:
        ValueError: The predictions have no annotated boxes with embeddings.
    """
    if predictions.gt_boxes is None or predictions.gt_embeddings is None:
        raise ValueError('the upper bound needs ground-truth boxes and their embeddings (gt_embeddings), got none')
    scores = [np.ones(len(boxes), np.float32) for boxes in predictions.gt_boxes]
    queries = predictions.query_embeddings
    candidates = Candidates.from_lists(protocol, predictions.gt_boxes, scores, predictions.gt_embeddings, queries.shape[1])
    return score_searches({'': Search(protocol, cameras=cameras)}, candidates, queries, topk, product=product)['']


def top_detections(
    protocol: SearchProtocol,
    boxes: Sequence[np.ndarray],
    scores: Sequence[np.ndarray],
    embeddings: Sequence[np.ndarray],
    query_embeddings: np.ndarray,
    queries: Sequence[int] | np.ndarray,
    n: int = 10,
    score_thr: float = 0.5,
    cameras: str | int = 'all',
) -> list[RankedDetections]:
    """Returns the n best detections of each given query. The other arguments are as in :func:`search_scores`."""
    search = Search(protocol, cameras=cameras)
    query_embeddings = _query_embeddings(search, query_embeddings)
    candidates = Candidates.from_lists(protocol, boxes, scores, embeddings, query_embeddings.shape[1], score_thr)
    ranking, ranked = _Ranking(search, candidates), {}
    asked = np.unique(queries).astype(np.int64)
    for block, similarities in SimilarityBlocks(candidates, query_embeddings, asked):
        ranking.match(block, np.arange(len(block)), similarities)
        for query, row in zip(block.tolist(), similarities, strict=True):
            best = ranking.at(query, np.argsort(-ranking.values(query, row), kind='stable')[:n])
            correct = np.isin(best, ranking.detections[protocol.target_queries == query])
            ranked[query] = RankedDetections(
                ranking.images[best], candidates.positions[best], candidates.boxes[best], row[best], correct
            )
    return [ranked[int(query)] for query in queries]


def similarity_histograms(
    search: Search,
    result: SearchResult,
    candidates: Candidates,
    query_embeddings: np.ndarray,
    bins: int = 100,
    max_queries: int = 500,
    product: NumPyProduct | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns histograms of the similarities of true positives and of all other detections, without re-ranking.

    Args:
        search: A search without CBGM.
        result: Its scores.
        max_queries: If there are more queries, this many are used, evenly spaced.
        product: Computes similarities; by default with NumPy.

    Returns:
        Edges (bins + 1,), counts of true positives (bins,) and counts of other detections (bins,).
    """
    ranking, protocol = _Ranking(search, candidates), search.protocol
    queries = np.unique(np.linspace(0, protocol.num_queries - 1, max_queries).round().astype(np.int64))
    matches = result.target_similarities[np.isin(protocol.target_queries, queries) & (result.target_ranks > 0)]
    norm = np.sqrt((query_embeddings**2).sum(axis=1).max())
    reach = max(1.0, float(norm))  # for embeddings of length at most 1, similarities are in -1..1
    edges, everything = np.linspace(-reach, reach, bins + 1), np.zeros(bins, np.int64)
    for rows, similarities in SimilarityBlocks(candidates, query_embeddings, np.unique(ranking.rows[queries]), product):
        for query in queries[np.isin(ranking.rows[queries], rows)]:
            values = ranking.values(query, similarities[np.searchsorted(rows, ranking.rows[query])])
            places = ((values + reach) * (bins / (2 * reach))).astype(np.int64)
            everything += np.bincount(np.clip(places, 0, bins - 1), minlength=bins)
    places = ((matches + np.float32(reach)) * (bins / (2 * reach))).astype(np.int64)
    matches = np.bincount(np.clip(places, 0, bins - 1), minlength=bins)
    return edges, matches, everything - matches


class _Ranking:
    """The state of one search: what it has found in the blocks of similarities so far.

    R rows of query embeddings, b of this search's queries in a block.
    """

    def __init__(self, search: Search, candidates: Candidates, contexts: Sequence[np.ndarray] | None = None) -> None:
        self.search, self.protocol, self.candidates = search, search.protocol, candidates
        self.contexts, protocol = contexts, search.protocol
        self.rows = np.arange(protocol.num_queries) if search.rows is None else search.rows
        self.by_row = np.argsort(self.rows, kind='stable')
        self.images = candidates.images
        self.sought = protocol.sought(search.cameras)
        self.wanted = np.flatnonzero(self.sought & ~protocol.repeated)  # targets that can be found, sorted by query
        self.bounds = np.searchsorted(protocol.target_queries[self.wanted], np.arange(protocol.num_queries + 1))
        self.detections = np.full(protocol.num_targets, -1, dtype=np.int64)
        self.ranks = np.zeros(protocol.num_targets, dtype=np.int64)
        self.similarities = np.full(protocol.num_targets, np.nan, dtype=np.float32)
        self.shared: dict[int, np.ndarray] = {}  # by camera: the detections that its queries search, including their own images

    def add(self, rows: np.ndarray, similarities: np.ndarray) -> None:
        """Ranks the targets of the queries whose embeddings are in these rows (B,), given similarities (B, N)."""
        first, last = np.searchsorted(self.rows[self.by_row], [rows[0], rows[-1] + 1])
        queries = np.sort(self.by_row[first:last])
        lines = np.searchsorted(rows, self.rows[queries])
        cbgm = self.search.cbgm
        if cbgm is None:
            self._rank(queries, lines, similarities)
            return
        size = max(1, REVISED_BYTES // (4 * max(1, similarities.shape[1])))
        for start in range(0, len(queries), size):
            part = slice(start, start + size)
            revised = self._revised(cbgm, queries[part], similarities[lines[part]])
            self._rank(queries[part], np.arange(len(revised)), revised)

    def _rank(self, queries: np.ndarray, lines: np.ndarray, similarities: np.ndarray) -> None:
        """Ranks the targets of queries (b,), whose similarities are in the given lines (b,) of the block."""
        self.match(queries, lines, similarities)
        # A loop over queries, because their galleries differ; there is no loop over detections.
        for query, line in zip(queries.tolist(), lines.tolist(), strict=True):
            targets = self.wanted[self.bounds[query] : self.bounds[query + 1]]
            targets = targets[self.detections[targets] >= 0]
            if len(targets):
                self.ranks[targets] = self._ranks(query, similarities[line], targets)

    def match(self, queries: np.ndarray, lines: np.ndarray, similarities: np.ndarray) -> None:
        """Finds the true positives of queries (b,), whose similarities are in the given lines (b,) of the block."""
        picked, owners = joined_ranges(self.bounds[queries], self.bounds[queries + 1] - self.bounds[queries])
        targets = self.wanted[picked]
        matched = match_targets(
            self.candidates,
            similarities,
            lines[owners],
            self.protocol.target_images[targets],
            self.protocol.target_boxes[targets],
        )
        self.detections[targets] = matched
        found = matched >= 0
        self.similarities[targets[found]] = similarities[lines[owners[found]], matched[found]]

    def values(self, query: int, row: np.ndarray) -> np.ndarray:
        """Copies from a query's similarities (N,) those of the detections that it searches (n,), in gallery order."""
        columns, own = self._searched(query)
        if columns is None:
            return np.concatenate([row[: own.start], row[own.stop :]])
        return row.take(columns)

    def at(self, query: int, places: np.ndarray) -> np.ndarray:
        """Returns the detections at these positions of :meth:`values`."""
        columns, own = self._searched(query)
        return places + (own.stop - own.start) * (places >= own.start) if columns is None else columns[places]

    def _searched(self, query: int) -> tuple[np.ndarray | None, slice]:
        """Returns the detections (n,) that a query searches, in gallery order, and the slice of its own image's detections.

        ``None`` in place of the first stands for all detections but those of its own image.
        """
        protocol, cameras = self.protocol, self.search.cameras
        image = protocol.query_images[query]
        own = slice(*self.candidates.offsets[[image, image + 1]].tolist())
        if protocol.galleries is not None and protocol.galleries[query] is not None:
            return self.candidates.of_images(protocol.gallery(query, cameras))[0], own
        if cameras == 'all':
            return None, own
        camera = int(protocol.cameras[image])
        if camera not in self.shared:
            images = np.append(protocol.gallery(query, cameras), [image] * (cameras == camera)).astype(np.int64)
            self.shared[camera] = self.candidates.of_images(np.sort(images))[0]
        shared = self.shared[camera]
        start, stop = np.searchsorted(shared, [own.start, own.stop])
        return np.concatenate([shared[:start], shared[stop:]]), own

    def _ranks(self, query: int, row: np.ndarray, targets: np.ndarray) -> np.ndarray:
        detections = self.detections[targets]
        values = self.values(query, row)

        def before(i: int) -> np.ndarray:
            place = np.flatnonzero(self.at(query, np.arange(len(values))) == detections[i])[0]
            return self.values(query, row)[:place]

        return stable_ranks(values, self.similarities[targets], before)

    def _revised(self, cbgm: CBGM, queries: np.ndarray, similarities: np.ndarray) -> np.ndarray:
        """Re-ranks by context, in place."""
        for query, row in zip(queries.tolist(), similarities, strict=True):
            best = np.unique(self.images[self.at(query, largest(self.values(query, row), cbgm.k1))])
            people = (
                cbgm.people(self.candidates, self.protocol.query_images[query])
                if self.contexts is None
                else self.contexts[self.rows[query]]
            )
            cbgm.revise(row, best, self.candidates, people)
        return similarities

    def result(self, topk: Sequence[int]) -> SearchResult:
        positions = self.detections
        if len(self.candidates):
            positions = np.where(self.detections >= 0, self.candidates.positions[self.detections], -1)
        return _summary(self.protocol, self.sought, self.ranks, positions, self.similarities, topk)


def stable_ranks(values: np.ndarray, similarities: np.ndarray, before: Callable[[int], np.ndarray]) -> np.ndarray:
    """Returns the ranks (k,), from 1, that a stable sort in decreasing order gives to some of the values.

    For few ranks it counts larger values, for many it sorts. Only ties need ``before``.

    Args:
        values: (n,). May be sorted in place.
        similarities: (k,), the values whose ranks are wanted.
        before: Returns the values before the i-th of these, in the original order.
    """
    if len(similarities) <= COUNTED:
        larger = np.count_nonzero(values > similarities[:, None], axis=1)
        ties = np.count_nonzero(values == similarities[:, None], axis=1)
    else:
        values.sort()
        upper = np.searchsorted(values, similarities, 'right')
        larger, ties = len(values) - upper, upper - np.searchsorted(values, similarities, 'left')
    ranks = larger + 1
    for i in np.flatnonzero(ties > 1).tolist():
        ranks[i] += np.count_nonzero(before(i) == similarities[i])
    return ranks


def _query_embeddings(search: Search, embeddings: np.ndarray) -> np.ndarray:
    """Checks the embeddings that a search uses, and returns all as float32."""
    embeddings, protocol = np.asarray(embeddings, dtype=np.float32), search.protocol
    count = protocol.num_queries if search.rows is None else len(embeddings)
    if embeddings.ndim != 2 or len(embeddings) != count:
        raise ValueError(f'query_embeddings: expected shape ({count}, D), got {embeddings.shape}')
    asked = embeddings if search.rows is None else embeddings[search.rows]
    for query in np.flatnonzero(~multipliable(asked))[:1]:
        raise ValueError(f'{protocol.describe(query)}: its embedding is not finite, or too large')
    return embeddings


def _summary(
    protocol: SearchProtocol,
    sought: np.ndarray,
    ranks: np.ndarray,
    positions: np.ndarray,
    similarities: np.ndarray,
    topk: Sequence[int],
) -> SearchResult:
    num_targets = np.bincount(protocol.target_queries[sought], minlength=protocol.num_queries)
    found = np.flatnonzero(ranks)
    found = found[np.lexsort((ranks[found], protocol.target_queries[found]))]
    queries = protocol.target_queries[found]
    num_found = np.bincount(queries, minlength=protocol.num_queries)
    first = np.cumsum(num_found) - num_found
    precision = (np.arange(len(found)) - first[queries] + 1) / ranks[found]
    # average precision x recall = (sum of precisions / found) x (found / targets)
    ap = np.bincount(queries, precision, protocol.num_queries) / np.maximum(num_targets, 1)
    first_ranks = np.zeros(protocol.num_queries, dtype=np.int64)
    first_ranks[num_found > 0] = ranks[found[first[num_found > 0]]]
    hits = {int(k): float(np.mean((first_ranks > 0) & (first_ranks <= k))) for k in topk}
    return SearchResult(float(ap.mean()), hits, ap, first_ranks, num_targets, num_found, ranks, positions, similarities)
