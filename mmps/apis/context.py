"""Searches a gallery with context: a person in the same company is more likely the same person.

N detections, D the embedding size.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from mmps.evaluation.candidates import Candidates
from mmps.evaluation.context import CBGM

from .gallery import Gallery
from .sightings import Match, Sighting, Where


def search_in_context(
    gallery: Gallery,
    embedding: np.ndarray,
    scene: Sequence[Sighting],
    cbgm: CBGM,
    topk: int = 20,
    min_similarity: float | None = None,
    where: Where | None = None,
) -> list[Match]:
    """Searches a gallery as :meth:`Gallery.search` does, and re-ranks the frames of the k1 most similar sightings.

    Args:
        gallery: The gallery.
        embedding: (D,), of the query.
        scene: Everybody who is detected in the query's image, with embeddings.
        cbgm: k1 and k2.
        topk, min_similarity, where: As in :meth:`Gallery.search`.
    """
    (matches,) = gallery.search(embedding[None], max(topk, cbgm.k1), where=where)
    moments = dict.fromkeys((each.sighting.source, each.sighting.time) for each in matches[: cbgm.k1])
    others = where or Where()
    frames = [gallery.sightings(replace(others, sources=[source], since=time, until=time)) for source, time in moments]
    candidates = as_candidates(frames, gallery.dims)
    images = np.arange(len(frames))
    similarities = candidates.embeddings_of(images) @ embedding.astype(np.float32)
    cbgm.revise(similarities, images, candidates, cbgm.people(as_candidates([scene], gallery.dims), 0))
    best = {each.sighting: each.similarity for each in matches}
    for sighting, similarity in zip(chain(*frames), similarities.tolist(), strict=True):
        best[sighting] = max(similarity, best.get(sighting, similarity))  # context makes nobody less similar
    ranked = sorted((Match(similarity, sighting) for sighting, similarity in best.items()), key=lambda each: -each.similarity)
    return [each for each in ranked[:topk] if min_similarity is None or each.similarity >= min_similarity]


def as_candidates(frames: Sequence[Sequence[Sighting]], dims: int) -> Candidates:
    """Returns the persons of frames, in the form in which scores of searches are computed."""
    people = list(chain(*frames))
    counts = np.array([len(frame) for frame in frames], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    x, y, width, height = np.array([each.bbox for each in people], np.float32).reshape(-1, 4).T
    embeddings = np.array([each.embedding for each in people], np.float32).reshape(-1, dims)
    return Candidates(
        boxes=np.stack([x, y, x + width, y + height], axis=1),
        scores=np.array([each.score for each in people]),
        positions=np.concatenate([np.arange(count) for count in [0, *counts]]),
        offsets=offsets,
        counts=counts,
        given=np.split(embeddings, offsets[1:-1]),
        held=embeddings,
        dim=dims,
    )
