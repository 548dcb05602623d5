"""Tests context bipartite graph matching. test_recorded_scores.py compares it with SeqNet's implementation."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmps.evaluation import CBGM, SearchProtocol, search_scores


def rerank(embeddings, people, searched, k1):
    """Re-ranks each image's detections for the query, the first of the people, by trying every matching."""
    similarities = {image: embeddings[image] @ people[0] for image in searched}
    best = sorted((-value, image) for image, values in similarities.items() for value in values)[:k1]
    for image in {image for _, image in best}:
        pairs = people @ embeddings[image].T
        if len(pairs) > len(pairs.T):
            matchings = [
                list(zip(rows, range(len(pairs.T)), strict=True))
                for rows in itertools.permutations(range(len(pairs)), len(pairs.T))
            ]
        else:
            matchings = [list(enumerate(columns)) for columns in itertools.permutations(range(len(pairs.T)), len(pairs))]
        matching = max(matchings, key=lambda matching: sum(pairs[pair] for pair in matching))
        for person, detection in matching:
            if person == 0:
                similarities[image][detection] = max(pairs[pair] for pair in matching)
    return similarities


def unit(embeddings):
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 4), st.booleans())
@settings(max_examples=150, deadline=None)
def test_cbgm_equals_trying_every_matching(seed, k1, k2, given_context):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, size=5)
    embeddings = [rng.normal(size=(count, 4)).astype(np.float32) for count in counts]
    scores = [rng.uniform(0.5, 1, size=count).astype(np.float32) for count in counts]
    boxes = [np.arange(count)[:, None] * 100 + np.array([[0, 0, 50, 90]]) for count in counts]
    targets = [(box[:1], [0]) if len(box) else (np.zeros((0, 4)), []) for box in boxes]
    protocol = SearchProtocol.from_identities(
        'abcde', None, [box for box, _ in targets], [ids for _, ids in targets], ['a'], [[0, 0, 9, 9]], [0]
    )
    query = rng.normal(size=(1, 4)).astype(np.float32)
    around = rng.normal(size=(5, 4)).astype(np.float32) if given_context else unit(embeddings[0][np.argsort(-scores[0])])
    result = search_scores(
        protocol, boxes, scores, embeddings, query, cbgm=CBGM(k1, k2), contexts=[around] if given_context else None
    )
    reranked = rerank(embeddings, np.concatenate([query, around[: k2 - 1]]), range(1, 5), k1)
    everything = np.concatenate([reranked[image] for image in range(1, 5)])
    expected = [1 + np.count_nonzero(everything > reranked[image][0]) for image in protocol.target_images]
    assert result.target_ranks.tolist() == expected
    np.testing.assert_allclose(
        result.target_similarities, [reranked[image][0] for image in protocol.target_images], rtol=1e-5, atol=1e-5
    )


def test_a_companion_of_the_query_raises_its_rank():
    """Image b shows someone more similar to the query; image c shows the query with a companion from the query's image."""
    person, companion, stranger = np.eye(3, dtype=np.float32)
    far, near = 0.6 * person + 0.8 * stranger, 0.7 * person
    embeddings = [np.stack([person, companion]), near[None], np.stack([far, companion])]
    boxes = [
        np.array([[0, 0, 50, 90], [100, 0, 150, 90]]),
        np.array([[0, 0, 50, 90]]),
        np.array([[0, 0, 50, 90], [100, 0, 150, 90]]),
    ]
    scores = [np.array([0.9, 0.8]), np.array([0.9]), np.array([0.9, 0.9])]
    protocol = SearchProtocol.from_identities('abc', None, boxes, [[0, 1], [2], [0, 1]], ['a'], boxes[0][:1], [0])
    query = person[None]
    assert search_scores(protocol, boxes, scores, embeddings, query).target_ranks.tolist() == [2]
    # Without the query's own detection among its company, whose embedding here is the query's.
    result = search_scores(protocol, boxes, scores, embeddings, query, cbgm=CBGM(3, 2), contexts=[companion[None]])
    assert result.target_ranks.tolist() == [1] and result.target_similarities == pytest.approx([1])


def test_embeddings_of_the_querys_company_are_normalized():
    """NAE and SeqNet multiply a detection's embedding by its score, but SeqNet's evaluation does not for the company."""
    person, companion, _ = np.eye(3, dtype=np.float32)
    boxes = [np.array([[0, 0, 50, 90], [100, 0, 150, 90]])] * 2
    scores = [np.array([0.9, 0.6])] * 2
    protocol = SearchProtocol.from_identities('ab', None, boxes, [[0, 1], [0, 1]], ['a'], boxes[0][:1], [0])
    gallery = np.stack([person * 0.5, companion * 0.6])
    results = [
        search_scores(protocol, boxes, scores, [company, gallery], person[None], cbgm=CBGM(3, 3))
        for company in (np.stack([person, companion]), np.stack([person * 0.9, companion * 0.6]))
    ]
    assert results[0].target_similarities == pytest.approx([0.6])
    assert results[1].target_similarities == pytest.approx(results[0].target_similarities)


@pytest.mark.parametrize('wrong', [dict(k1=0), dict(k2=0)])
def test_k1_or_k2_below_one_is_refused(wrong):
    with pytest.raises(ValueError, match='CBGM: expected k1 and k2 of at least 1'):
        CBGM(**wrong)
