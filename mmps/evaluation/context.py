"""Re-ranks a search by context: by the people around the query.

N confident detections, P people of a query's image, D embedding size.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from .candidates import Candidates


@dataclass(frozen=True)
class CBGM:
    """Context bipartite graph matching (SeqNet: Li and Miao, AAAI 2021, section 3.4), as in its authors' evaluation code.

    The people of the query's image are matched one to one to the people of a gallery image, such that the sum of their
    similarities is largest. The similarity of the person matched to the query becomes the largest similarity of any matched
    pair. The idea: someone with the same company is more likely the same person.

    Attributes:
        k1: The gallery images of the k1 most similar detections are re-ranked. 10 for CUHK-SYSU, 30 for PRW.
        k2: Number of people of the query's image that are matched: the query and the k2 - 1 most confident detections. 3
            for CUHK-SYSU, 4 for PRW.

    Raises:
        ValueError: k1 or k2 below 1.
    """

    k1: int = 10
    k2: int = 3

    def __post_init__(self) -> None:
        if self.k1 < 1 or self.k2 < 1:
            raise ValueError(f'CBGM: expected k1 and k2 of at least 1, got k1={self.k1}, k2={self.k2}')

    def people(self, candidates: Candidates, image: int) -> np.ndarray:
        """Returns the embeddings (at most k2 - 1, D) of an image's most confident detections, the most confident first.

        They are normalized to length 1. NAE and SeqNet multiply a detection's embedding by its confidence, but SeqNet's
        evaluation does not do so for the people around the query.
        """
        rows = slice(candidates.offsets[image], candidates.offsets[image + 1])
        best = np.argsort(-candidates.scores[rows], kind='stable')[: self.k2 - 1]
        embeddings = candidates.embeddings_of([image])[best]
        return embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)

    def revise(self, similarities: np.ndarray, best: np.ndarray, candidates: Candidates, people: np.ndarray) -> None:
        """Re-ranks some images for a query, by changing ``similarities`` in place.

        Args:
            similarities: (N,), of the query to all detections.
            best: The images (g,) that hold the k1 most similar detections.
            people: (P, D), embeddings of the people around the query, the most confident first.
        """
        rows, _ = candidates.of_images(best)
        pairs = np.concatenate([similarities[rows][None], people[: self.k2 - 1] @ candidates.embeddings_of(best).T])
        counts = np.diff(candidates.offsets)[best]
        ends = np.cumsum(counts)
        # A loop, because each image is matched separately.
        for start, stop in zip((ends - counts).tolist(), ends.tolist(), strict=True):
            pair = pairs[:, start:stop]
            person, detection = linear_sum_assignment(pair, maximize=True)
            if person[0] == 0:  # with more people than detections the query may have no match
                similarities[rows[start + detection[0]]] = pair[person, detection].max()


def largest(values: np.ndarray, k: int) -> np.ndarray:
    """Returns the indices of the k largest values of (n,), unordered. Of equal values the first count."""
    if len(values) <= k:
        return np.arange(len(values))
    least = np.partition(values, -k)[-k]
    above = np.flatnonzero(values > least)
    return np.concatenate([above, np.flatnonzero(values == least)[: k - len(above)]])
