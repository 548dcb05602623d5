"""One record for a person in consecutive frames, by DeepSORT (Wojke, Bewley and Paulus, ICIP 2017).

D is the embedding size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from deep_sort_realtime.deep_sort.detection import Detection
from deep_sort_realtime.deep_sort.nn_matching import NearestNeighborDistanceMetric
from deep_sort_realtime.deep_sort.tracker import Tracker

from .sightings import Sighting

BEST = 5  # views whose mean embedding a track has
LOST_AFTER = 10  # frames without the person end a track
MAX_COSINE_DISTANCE = 0.2  # of a view to the nearest of a track's last views
# A view without a similar track may go on with one that it overlaps. Stricter than DeepSORT's 0.7: two records of a person cost
# little, and one record of two persons hides one of them.
MAX_IOU_DISTANCE = 0.5
REMEMBERED = 50  # views of a track that are compared


@dataclass
class Track:
    """A person in consecutive frames: the times, and the best views so far."""

    since: float
    until: float
    views: list[Sighting] = field(default_factory=list)

    def add(self, view: Sighting) -> None:
        self.until = view.time
        self.views = sorted([*self.views, view], key=lambda each: -each.score)[:BEST]

    def record(self) -> Sighting:
        """Returns the best view, with the track's times and the mean embedding (D,) of the best views, of unit length."""
        mean = np.mean(np.array([view.embedding for view in self.views]), axis=0)
        return replace(self.views[0], embedding=mean / np.linalg.norm(mean), since=self.since, until=self.until)


class Tracks:
    """Joins the sightings of one video, frame by frame."""

    def __init__(self) -> None:
        metric = NearestNeighborDistanceMetric('cosine', MAX_COSINE_DISTANCE, REMEMBERED)
        self._tracker = Tracker(metric, MAX_IOU_DISTANCE, max_age=LOST_AFTER, n_init=1)
        self._open: dict[str, Track] = {}

    def __bool__(self) -> bool:
        """Whether a track may go on."""
        return bool(self._open)

    def add(self, sightings: Sequence[Sighting]) -> list[Sighting]:
        """Adds the persons of the next frame. Returns the records of the tracks that ended."""
        self._tracker.predict()
        self._tracker.update(
            [Detection(np.array(each.bbox), each.score, feature=each.embedding, others=each) for each in sightings]
        )
        for each in self._tracker.tracks:
            if each.others is not None:  # seen in this frame
                self._open.setdefault(each.track_id, Track(each.others.time, each.others.time)).add(each.others)
        going = {each.track_id for each in self._tracker.tracks}
        return [self._open.pop(name).record() for name in list(self._open) if name not in going]

    def end(self) -> list[Sighting]:
        """Ends all tracks. Returns their records."""
        records = [track.record() for track in self._open.values()]
        self._open = {}
        self._tracker.delete_all_tracks()
        return records
