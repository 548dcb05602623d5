"""Adds what a model finds in images and videos to a gallery, so that it can be interrupted at any time."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from mmdet.structures import DetDataSample
from mmengine.logging import print_log

from .detections import sightings_of
from .gallery import Gallery
from .sightings import Sighting
from .tracks import Tracks
from .video import EVERY_FRAME, Frame, Sampling, UnreadableSourceError, read_frames


class Indexer:
    """Reads sources from where the gallery has them, and adds each frame's persons.

    Args:
        gallery: The gallery.
        camera: Name of the camera.
        start: Time of the first frame, in seconds.
        sampling: Which frames of a video.
        tracks: Add a person in consecutive frames as one record.
        only_new: Pass over sources that are complete, of the same camera, with the same settings.

    Attributes:
        counts: ``sources``, ``frames``, ``persons`` and ``unreadable`` so far.
    """

    def __init__(
        self,
        gallery: Gallery,
        camera: str = '',
        start: float = 0.0,
        sampling: Sampling = EVERY_FRAME,
        tracks: bool = False,
        only_new: bool = False,
    ) -> None:
        self.only_new = only_new
        self.gallery, self.camera, self.start, self.sampling = gallery, camera, start, sampling
        limits = {name: value for name in ('since', 'until') if (value := getattr(sampling, name)) is not None}
        self.settings = dict(start=start, stride=sampling.stride, fps=sampling.fps, tracks=tracks, **limits)
        self.tracks = Tracks() if tracks else None
        self.done: dict[str, int] = {}  # for each source with tracks: the frames before this one are all in the gallery
        self.counts = dict(sources=0, frames=0, persons=0, unreadable=0)

    def frames(self, sources: Iterable[str]) -> Iterator[Frame]:
        """Yields the frames of all sources that are not in the gallery yet, and begins each source.

        A source that cannot be read is named, counted and passed over. What the gallery has of it stays.
        """
        for source in sources:
            if self.only_new and self.gallery.is_complete(source, self.camera, self.settings):
                continue
            first, begun = self.gallery.next_frame(source, self.camera, self.settings), False
            try:
                for frame in read_frames(source, first, self.sampling):
                    if not begun:
                        self.gallery.begin(source, self.camera, self.settings)
                        self.done[source], begun = first, True
                    yield frame
            except UnreadableSourceError as error:
                self.counts['unreadable'] += 1
                print_log(f'passed over: {error}', 'current', logging.WARNING)
            else:
                if not begun:  # an earlier call was stopped after the last frame
                    self.gallery.add(source, (), first, complete=True)

    def add(self, batch: Sequence[tuple[Frame, DetDataSample]]) -> None:
        """Adds the persons of consecutive frames, which may be of several sources."""
        for source, part in groupby(batch, key=lambda item: item[0].source):
            found = list(part)
            last = found[-1][0]
            sightings: list[Sighting] = []
            for frame, sample in found:
                persons = sightings_of(frame, sample, self.camera, self.start + frame.time)
                sightings += persons if self.tracks is None else self._join(frame, persons)
            done = last.number + 1 if self.tracks is None else self.done[source]
            self.gallery.add(source, sightings, done, last.is_last, self.sampling.interval(last))
            self.counts['persons'] += len(sightings)
            self.counts['sources'] += last.is_last
        self.counts['frames'] += len(batch)

    def _join(self, frame: Frame, persons: Sequence[Sighting]) -> list[Sighting]:
        """Returns the records of the tracks that end with this frame.

        An interrupted video goes on at the last frame without an open track, so no record is a part of a track.
        """
        assert self.tracks is not None
        ended = self.tracks.add(persons)
        if frame.is_last:
            ended += self.tracks.end()
        if not self.tracks:
            self.done[frame.source] = frame.number + 1
        return ended
