"""Pixels of recorded views: frames of a dataset's videos and still images, cut into square crops.

Files are decoded in another process, with limits of time and memory, one frame at a time. Boxes and crop pixels are
those of :mod:`isopose.crops`; image px have the centre of the top left pixel at (0, 0).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from isopose.arrays import check_array
from isopose.crops import boxes_from_rectangles, image_to_crop, rectangles_around
from isopose.datasets.store import Clip
from isopose.datasets.worker import READ_SECONDS, Arrays, Worker
from isopose.errors import UserError

if TYPE_CHECKING:
    import av

MOST_PIXELS = 1 << 26
"""Of an image or a video's frame; the largest here have 2048 x 2048, and as RGB the worker has memory for them."""

SECONDS_A_FRAME = 0.2
"""The slowest decoding that is waited for: of 2048 x 2048 px, and the machine may be busy."""

FAR = 64
"""Frames that are decoded and passed over rather than looked for a keyframe nearer to the one wanted."""

GREY = 128
"""Of a rectangle in front of a person: the middle of the range, which looks like no part of one."""

_VIDEO = {"format_whitelist": "avi,mov,mp4", "protocol_whitelist": "file"}
"""Containers that are opened; others may be text that names further files."""

_FORMATS = ("JPEG", "PNG")


@dataclass(frozen=True)
class Footage:
    """Where the frames of a view are.

    path: under the dataset's folder, a video, or a pattern with one %0Nd for the number of a still image; frames (F,)
    int: for each frame of the clip the frame of the video, from 0, or the number in the image's name.
    """

    path: str
    frames: np.ndarray

    @property
    def is_video(self) -> bool:
        """Whether the path is of a video."""
        return "%" not in self.path


RECORDED = ("human36m", "humaneva", "mpi_inf_3dhp", "three_dpw", "penn_action")
"""Readers whose views are recorded, with footage in the dataset's folder; every other source's are rendered."""


def footage_of(reader: str, clip: Clip, view: str) -> Footage:
    """Where the frames of a recorded view are: of an occluded view those of its camera.

    The clip may have another frame rate than its footage, as :func:`isopose.datasets.official.resample` gives it:
    its frames are then the nearest recorded ones. UserError where the dataset has no footage of the view.
    """
    camera, attributes = clip.views[view].camera, clip.attributes
    recorded = np.arange(len(clip.joints3d)) * attributes.get("recorded_fps", clip.fps) / clip.fps
    path, first = _PLACES[reader](clip, camera)
    return Footage(path, first + np.rint(recorded).astype(int))


def is_broken(clip: Clip, view: str) -> bool:
    """Whether the video of a view is known to be broken for good: the view is then left out."""
    return clip.attributes.get("broken_video") == clip.views[view].camera


def recorded_boxes(clip: Clip, view: str, margin: float, smoothing: int) -> np.ndarray:
    """Square boxes (F, 3) of the person in a recorded view, px.

    Around the rectangles that the clip brings (attribute ``boxes``, (F, 4) px), else around the 2D joints, those left
    out that are not labelled. UserError where they give no box.
    """
    joints2d, rectangles = clip.views[view].joints2d, clip.attributes.get("boxes")
    try:
        if rectangles is None:
            rectangles = rectangles_around(joints2d)
        check_array("boxes", rectangles, (len(joints2d), 4))
        return boxes_from_rectangles(rectangles, margin, smoothing)
    except ValueError as error:
        raise UserError(f"{clip.source}: {clip.id}/{view}: {error}; read the clips again, or leave it out") from error


@dataclass(frozen=True)
class Recordings:
    """The footage of a reader's views; root: the dataset's folder."""

    reader: str
    root: Path
    worker: Worker

    def view_frames(self, clip: Clip, view: str, boxes: np.ndarray, frames: np.ndarray, size: int) -> np.ndarray:
        """Frames (n,) of a view as crops, RGB (n, size, size, 3) uint8, its occluders in front; boxes (F, 3) px of the
        whole clip."""
        footage, occluders = footage_of(self.reader, clip, view), clip.views[view].occluders
        return read_crops(self.root, footage, boxes, frames, size, self.worker, occluders)


def _human36m(clip: Clip, camera: str) -> tuple[str, int]:
    path = f"{clip.subject}/Videos/{clip.attributes['trial']}.{camera}.mp4"
    if camera == clip.attributes["broken_video"]:
        raise UserError(
            f"human36m: the video {path} cannot be decoded, a known fault; expected the pixels of the view "
            f"{clip.id}/{camera}; leave the view out (docs/datasets/human36m.md)"
        )
    return path, 0


def _humaneva(clip: Clip, camera: str) -> tuple[str, int]:
    first = clip.attributes["first_image"][sorted(clip.cameras).index(camera)]
    return f"{clip.subject}/Image_Data/{clip.action}_1_({camera}).avi", int(first) - 1


def _mpi_inf_3dhp(clip: Clip, camera: str) -> tuple[str, int]:
    first = int(clip.attributes["first_image"])
    if "image_folder" in clip.attributes:  # of the test set
        return f"{clip.attributes['image_folder']}/img_%06d.jpg", first
    number = camera.removeprefix("cam")
    return f"{clip.subject}/{clip.action}/imageSequence/video_{number}.avi", first - 1


def _three_dpw(clip: Clip, camera: str) -> tuple[str, int]:
    return f"{clip.attributes['image_folder']}/image_%05d.jpg", int(clip.attributes["first_image"])


def _penn_action(clip: Clip, camera: str) -> tuple[str, int]:
    return f"{clip.attributes['image_folder']}/%06d.jpg", int(clip.attributes["first_image"])


_PLACES = dict(zip(RECORDED, (_human36m, _humaneva, _mpi_inf_3dhp, _three_dpw, _penn_action), strict=True))


def crop(image: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """The crop (size, size, 3) of an image (H, W, 3), both uint8, in a box (3,): centre x, centre y, side, px.

    Bilinear; where it shrinks the image, every crop pixel is the mean of the image under a triangle two crop pixels
    wide, so that nothing aliases. Outside the image all is zero. ValueError for a box without a size or a place.
    """
    box = np.asarray(box, np.float64)
    if not np.isfinite(box).all() or not box[2] > 0:
        raise ValueError(f"box is {box.tolist()}; expected a centre and a positive side, px")
    step = box[2] / size
    margin = int(np.ceil(max(step, 1))) + 1  # what the triangle reaches beyond a crop pixel
    crops = np.zeros((size, size, 3), np.uint8)
    spans = []
    for centre, length in ((box[1], image.shape[0]), (box[0], image.shape[1])):
        low = centre - box[2] / 2 + 0.5  # where the crop begins, from the image's edge
        # the crop pixels that see the image: the others stay zero, and no large border is made for them
        first, last = np.clip(np.floor((np.array([-margin, length + margin]) - low) / step), -1, size).astype(int)
        first, last = max(first, 0), min(last, size - 1)
        if first > last:
            return crops
        begin, end = low + first * step, low + (last + 1) * step
        spans.append((first, last + 1, begin, end, int(np.floor(begin)) - margin, int(np.ceil(end)) + margin))
    (top, bottom, y0, y1, row, last_row), (left, right, x0, x1, column, last_column) = spans
    padded = np.zeros((last_row - row, last_column - column, 3), np.uint8)
    rows = slice(max(row, 0), min(last_row, image.shape[0]))
    columns = slice(max(column, 0), min(last_column, image.shape[1]))
    inside = image[rows, columns]
    padded[rows.start - row :, columns.start - column :][: inside.shape[0], : inside.shape[1]] = inside
    area = (x0 - column, y0 - row, x1 - column, y1 - row)
    resized = Image.fromarray(padded).resize((right - left, bottom - top), Image.Resampling.BILINEAR, area)
    crops[top:bottom, left:right] = np.asarray(resized)
    return crops


def read_crops(
    root: Path,
    footage: Footage,
    boxes: np.ndarray,
    frames: np.ndarray,
    size: int,
    worker: Worker,
    occluders: np.ndarray | None = None,
) -> np.ndarray:
    """Crops (n, size, size, 3), RGB uint8, of chosen frames (n,) of a view; boxes (F, 3) px of the whole clip.

    root: the dataset's folder. occluders (F, M, 4) px, x0, y0, x1, y1, NaN where absent, are put over the image in
    plain grey: footage shows the person whole, and a hidden person's joints are not to be seen. UserError for a
    missing or broken file, or a frame beyond the end of a video. Some hundreds of frames at a time.
    """
    numbers, boxes = footage.frames[frames], boxes[frames]
    if footage.is_video:
        worker.seconds = READ_SECONDS + SECONDS_A_FRAME * (int(numbers.max()) + 1)
        expected = f"a video (AVI or MP4) as docs/datasets/{root.name}.md says"
        crops = worker.read(crop_video, root / footage.path, expected, numbers, boxes, size)["crops"]
    else:
        crops = crop_files(root, [footage.path % number for number in numbers], boxes, size, worker)
    if occluders is not None:
        _paint(crops, occluders[frames], boxes)
    return crops


def crop_files(root: Path, images: Sequence[str], boxes: np.ndarray, size: int, worker: Worker) -> np.ndarray:
    """Crops (N, size, size, 3), RGB uint8, of N image files under a dataset's folder, in boxes (N, 3) px."""
    crops = np.empty((len(images), size, size, 3), np.uint8)
    worker.seconds = READ_SECONDS
    expected = f"an image (JPEG or PNG) as docs/datasets/{root.name}.md says, unpacked"
    for target, name, box in zip(crops, images, boxes, strict=True):
        target[:] = worker.read(crop_image, root / name, expected, box, size)["crop"]
    return crops


def crop_image(path: Path, box: np.ndarray, size: int) -> Arrays:
    """In the worker: the crop of an image file. Its orientation tag is ignored, as the annotations' pixels do."""
    with Image.open(path, formats=_FORMATS) as image:
        _check_size(path, *image.size)
        return {"crop": crop(np.asarray(image.convert("RGB")), box, size)}


def crop_video(path: Path, numbers: np.ndarray, boxes: np.ndarray, size: int) -> Arrays:
    """In the worker: the crops (n, size, size, 3) of frames (n,) of a video, counted from 0, in boxes (n, 3) px."""
    crops = np.empty((len(numbers), size, size, 3), np.uint8)
    try:
        video = _open(path)
        for number in np.unique(numbers):
            frame = video.frame(int(number))
            _check_size(path, frame.width, frame.height)
            image = frame.to_ndarray(format="rgb24")
            for row in np.flatnonzero(numbers == number):
                crops[row] = crop(image, boxes[row], size)
    except BaseException:
        _open.cache_clear()  # what it has decoded may be out of step
        raise
    return {"crops": crops}


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise UserError(
            f"{path}: has {width} x {height} px; expected at most {MOST_PIXELS} px; copy it from the source again"
        )


class _Video:
    """A video whose frames are asked for by number, from 0: with those of one call near those of the last, no frame is
    decoded twice.

    MP4 has the time that a frame is shown at, so it is sought in. AVI has but the order in which frames are decoded,
    which B-frames make another, so its frames are counted from the first.
    """

    def __init__(self, path: Path) -> None:
        import av  # by the worker, where there is a video: rendered views need no decoder

        self.path = path
        self._container = av.open(str(path), options=_VIDEO)
        if not self._container.streams.video:
            raise UserError(f"{path}: has no video stream; expected one; copy it from the source again")
        self._stream = self._container.streams.video[0]
        self._start, self._rate = self._stream.start_time or 0, self._stream.guessed_rate
        self._counted = self._container.format.name == "avi"
        self._frames: Iterator[tuple[int, av.VideoFrame]] = iter(())
        self._shown: tuple[int, av.VideoFrame] | None = None
        self._next: tuple[int, av.VideoFrame] | None = None

    def frame(self, number: int) -> av.VideoFrame:
        """The frame of a number; where the file leaves it out, the one before, which is then still shown."""
        ahead = -1 if self._shown is None else number - self._shown[0]
        if ahead < 0 or (ahead > FAR and not self._counted):
            self._go_to(number)
        while self._next is not None and self._next[0] <= number:
            self._advance()
        if self._shown is None:
            raise UserError(f"{self.path}: has no frame that can be decoded; copy it from the source again")
        last, frame = self._shown
        if self._next is None and number > last:
            raise UserError(
                f"{self.path}: has {last + 1} frames; expected frame {number}, counted from 0; copy it from the source "
                "again, with the labels that belong to it"
            )
        if frame.is_corrupt:
            raise UserError(f"{self.path}: frame {last} is damaged; copy it from the source again")
        return frame

    def _go_to(self, number: int) -> None:
        """Begin at the last keyframe that is not after a frame; where frames are counted, at the first frame."""
        back = 0
        while True:
            # it is sought by the order of decoding: the keyframe may be one that is shown after the frame
            target = 0 if self._counted else max(number - back, 0)
            self._container.seek(self._start + int(target / self._rate / self._stream.time_base), stream=self._stream)
            decoded = self._container.decode(self._stream)
            self._frames = enumerate(decoded) if self._counted else ((self._number(frame), frame) for frame in decoded)
            # frames before the keyframe may lack what they are made from
            self._next = next((item for item in self._frames if item[1].key_frame or target == 0), None)
            if target == 0 or (self._next is not None and self._next[0] <= number):
                break
            back = 2 * back + FAR
        self._shown = self._next
        self._advance()

    def _number(self, frame: av.VideoFrame) -> int:
        return round((frame.pts - self._start) * self._stream.time_base * self._rate)

    def _advance(self) -> None:
        self._shown, self._next = self._next or self._shown, next(self._frames, None)


_open = lru_cache(maxsize=1)(_Video)
"""The worker's video, kept for the next block of its frames."""


def _paint(crops: np.ndarray, occluders: np.ndarray, boxes: np.ndarray) -> None:
    """Put rectangles (n, M, 4), image px, over crops (n, size, size, 3): the pixels whose centres they hold."""
    size = crops.shape[1]
    corners = image_to_crop(occluders.reshape(len(boxes), -1, 2), boxes, size).reshape(occluders.shape)
    for crop_, rectangles in zip(crops, corners, strict=True):
        for x0, y0, x1, y1 in rectangles[np.isfinite(rectangles).all(axis=1)]:
            rows, columns = (
                slice(max(int(np.ceil(low)), 0), max(int(np.floor(high)) + 1, 0)) for low, high in ((y0, y1), (x0, x1))
            )
            crop_[rows, columns] = GREY
