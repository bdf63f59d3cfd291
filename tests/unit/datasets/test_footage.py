"""Frames of real videos and images that carry their own number: what is read is what was asked for."""

from dataclasses import replace

import av
import numpy as np
import pytest
from PIL import Image
from tests.unit.datasets.generators import human36m, three_dpw
from tests.unit.datasets.generators.mutations import mutations

from isopose.camera import Camera
from isopose.datasets import footage, official
from isopose.datasets import human36m as human36m_reader
from isopose.datasets import three_dpw as three_dpw_reader
from isopose.datasets.footage import Footage, crop, crop_files, footage_of, read_crops
from isopose.datasets.store import OCCLUDED, Clip, View
from isopose.datasets.worker import Worker
from isopose.errors import UserError

SIZE, BITS = 72, 9
WHOLE = (SIZE / 2 - 0.5, SIZE / 2 - 0.5, float(SIZE))


def numbered(number):
    """An image whose nine vertical bars, black or white, are the bits of a number."""
    bars = np.array([(number >> bit) & 1 for bit in range(BITS)], np.uint8) * 255
    return np.broadcast_to(np.repeat(bars, SIZE // BITS)[None, :, None], (SIZE, SIZE, 3)).copy()


def number_of(image):
    side = len(image) // BITS
    bars = [image[:, bit * side + 1 : (bit + 1) * side - 1].mean() > 127 for bit in range(BITS)]
    return sum(int(bar) << bit for bit, bar in enumerate(bars))


def write_video(path, images, rate, codec="libx264", times=None, **options):
    """Encode images (n, H, W, 3); times: the number of each of them, where some are left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options={key: str(value) for key, value in options.items()})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "rgb24" if codec == "libx264rgb" else "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.max_b_frames = int(options.get("bf", 0))
        stream.gop_size = int(options.get("g", 12))
        for number, image in zip(range(len(images)) if times is None else times, images, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def worker():
    with Worker() as worker:
        yield worker


def numbers(root, path, wanted, worker):
    """The numbers that the frames of a video tell."""
    boxes = np.tile(WHOLE, (len(wanted), 1))
    seen = read_crops(root, Footage(path, np.asarray(wanted)), boxes, np.arange(len(wanted)), SIZE, worker)
    return [number_of(image) for image in seen]


CODECS = {
    "b_frames.mp4": {"bf": 3, "g": 120, "crf": 12},
    "open_groups.mp4": {"bf": 3, "g": 30, "crf": 12, "x264-params": "open-gop=1:b-pyramid=normal:scenecut=0"},
    "b_frames.avi": {"bf": 3, "g": 120, "crf": 12},
    "part2.avi": {"codec": "mpeg4", "bf": 2, "g": 90, "qmax": 3},
    "stills.avi": {"codec": "mjpeg", "qmax": 3},
}


@pytest.mark.parametrize(
    ("name", "rate"), [("b_frames.mp4", 25), ("b_frames.mp4", 60), *zip(CODECS, (50, 50, 25, 60, 60), strict=True)]
)
def test_every_frame_is_found_by_its_number(tmp_path, worker, name, rate):
    frames = 300
    write_video(tmp_path / name, [numbered(i) for i in range(frames)], rate, **CODECS[name])
    for block in np.split(np.arange(frames), 5):
        assert numbers(tmp_path, name, block, worker) == block.tolist()
    # back, far ahead, twice the same, and in no order: beginning anywhere, beside keyframes too
    for wanted in ([3], [299, 150, 150, 0], [119, 120, 121], *([first, first + 1] for first in range(270, 5, -23))):
        assert numbers(tmp_path, name, wanted, worker) == wanted


@pytest.mark.parametrize("codec", [{"bf": 2, "g": 40}, {"g": 12}])
def test_frames_that_a_video_leaves_out_move_no_others(tmp_path, worker, codec):
    there = [i for i in range(200) if i not in (60, 61, 130)]
    write_video(tmp_path / "gaps.mp4", [numbered(i) for i in there], 50, times=there, **codec)
    assert numbers(tmp_path, "gaps.mp4", [59, 60, 61, 62, 129, 130, 131, 199], worker) == [
        *(59, 59, 59, 62),
        *(129, 129, 131, 199),
    ]


@pytest.mark.parametrize("name", ["b_frames.mp4", "b_frames.avi"])
def test_no_frame_is_decoded_twice_for_blocks_one_after_the_other(tmp_path, monkeypatch, name):
    write_video(tmp_path / name, [numbered(i) for i in range(200)], 50, **CODECS[name] | {"g": 500})
    decoded = []
    advance = footage._Video._advance
    monkeypatch.setattr(footage._Video, "_advance", lambda self: (decoded.append(1), advance(self)))
    for block in np.split(np.arange(200), 10):
        footage.crop_video(tmp_path / name, block, np.tile(WHOLE, (20, 1)), 9)
    assert len(decoded) <= 201


def test_a_frame_late_in_a_video_is_sought(tmp_path, monkeypatch):
    write_video(tmp_path / "long.mp4", [numbered(i) for i in range(500)], 50, g=50, bf=2)
    decoded = []
    advance = footage._Video._advance
    monkeypatch.setattr(footage._Video, "_advance", lambda self: (decoded.append(1), advance(self)))
    seen = footage.crop_video(tmp_path / "long.mp4", np.array([10, 480]), np.tile(WHOLE, (2, 1)), SIZE)["crops"]
    assert [number_of(image) for image in seen] == [10, 480]
    assert len(decoded) <= 12 + footage.FAR + 50


def test_a_frame_beyond_the_end_is_told_with_the_videos_length(tmp_path, worker):
    for name in ("b_frames.mp4", "b_frames.avi"):
        write_video(tmp_path / name, [numbered(i) for i in range(90)], 50, **CODECS[name])
        with pytest.raises(UserError, match=rf"{name}: has 90 frames; expected frame 90, counted from 0; copy it"):
            numbers(tmp_path, name, [89, 90], worker)
        assert numbers(tmp_path, name, [89], worker) == [89]  # and the video is still read


def triangles(length, centre, side, size):
    """Weights (size, length) of image pixels: a triangle about each crop pixel, two crop pixels wide, or image pixels
    where these are larger; what lies outside the image counts as zero."""
    step = side / size
    places = centre + (np.arange(size) - (size - 1) / 2) * step
    reach = max(step, 1)
    pixels = np.arange(int(places[0] - reach) - 2, int(places[-1] + reach) + 3)
    weights = np.maximum(1 - np.abs(pixels - places[:, None]) / reach, 0)
    weights /= weights.sum(axis=1, keepdims=True)
    inside = (pixels >= 0) & (pixels < length)
    result = np.zeros((size, length))
    result[:, pixels[inside]] = weights[:, inside]
    return result


@pytest.mark.parametrize(
    ("box", "size"),
    [
        ((60, 45, 64), 32),
        ((10, 5, 80), 48),
        ((110.3, 80.7, 33.3), 64),
        ((60, 45, 1000), 64),
        ((60, -20, 57), 20),
        ((-3, 45, 8), 16),
        ((60, 45, 2e4), 32),
        ((500, 500, 50), 16),
    ],
)
def test_a_crop_is_the_image_under_a_triangle_about_each_pixel(box, size):
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3)).astype(np.uint8)
    rows, columns = triangles(90, box[1], box[2], size), triangles(120, box[0], box[2], size)
    expected = np.einsum("ih,hwc,jw->ijc", rows, image.astype(float), columns)
    assert np.abs(crop(image, np.array(box, float), size) - expected).max() <= 1  # Pillow rounds twice


def test_a_box_of_the_images_own_pixels_is_the_image_there():
    image = np.random.default_rng(0).integers(0, 256, (50, 40, 3)).astype(np.uint8)
    np.testing.assert_array_equal(crop(image, np.array([14.5, 20.5, 20]), 20), image[11:31, 5:25])
    over = crop(image, np.array([0.5, 0.5, 20]), 20)  # the first pixel of the image is the tenth of the crop
    np.testing.assert_array_equal(over[9:, 9:], image[:11, :11])
    assert not over[:9].any() and not over[:, :9].any()


@pytest.mark.parametrize("size", [10, 23, 80])
def test_a_gradient_stays_one_where_its_crop_says(size):
    image = np.broadcast_to(2 * np.arange(100)[None, :, None], (100, 100, 3)).astype(np.uint8)
    seen = crop(image, np.array([50.25, 49, 40]), size)
    places = 50.25 + (np.arange(size) - (size - 1) / 2) * 40 / size
    assert np.abs(seen - 2 * places[None, :, None]).max() <= 1


@pytest.mark.parametrize("box", [(10, 10, 0), (10, 10, -5), (np.nan, 1, 5), (1, np.inf, 5)])
def test_a_box_that_is_none_is_refused(box):
    with pytest.raises(ValueError, match="box is .*; expected a centre and a positive side"):
        crop(np.zeros((20, 20, 3), np.uint8), np.array(box, float), 8)


def test_images_are_read_in_the_order_asked_for(tmp_path, worker):
    (tmp_path / "in").mkdir()
    for i in (3, 4, 12):
        Image.fromarray(numbered(i)).save(tmp_path / f"in/img_{i:06d}.jpg", quality=95)
    Image.fromarray(numbered(5)[..., 0]).save(tmp_path / "in/grey.png")
    boxes = np.tile(WHOLE, (4, 1))
    names = ["in/img_000012.jpg", "in/grey.png", "in/img_000003.jpg", "in/img_000012.jpg"]
    assert [number_of(image) for image in crop_files(tmp_path, names, boxes, SIZE, worker)] == [12, 5, 3, 12]
    stills = Footage("in/img_%06d.jpg", np.array([0, 3, 4, 12]))
    seen = read_crops(tmp_path, stills, boxes, np.array([3, 1]), SIZE, worker)
    assert [number_of(image) for image in seen] == [12, 3]


def test_each_frame_has_its_own_box(tmp_path, worker):
    image = np.broadcast_to(2 * np.arange(100)[None, :, None], (100, 100, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "0.png")
    boxes = np.stack([[30.0, 50, 9], [70.0, 50, 9]])
    seen = read_crops(tmp_path, Footage("%d.png", np.array([0, 0])), boxes, np.array([1, 0]), 9, worker)
    assert seen[:, 4, 4, 0].tolist() == [140, 60]


def test_occluders_are_grey_over_the_image(tmp_path, worker):
    Image.fromarray(np.full((60, 80, 3), 250, np.uint8)).save(tmp_path / "0.png")
    occluders = np.full((2, 2, 4), np.nan)
    occluders[1, 1] = 10, 20, 29, 34
    still, boxes = Footage("%d.png", np.array([0, 0])), np.tile([39.5, 29.5, 60], (2, 1))
    bare, hidden = read_crops(tmp_path, still, boxes, np.arange(2), 60, worker, occluders)
    assert (bare == 250).all()
    expected = np.full((60, 60, 3), 250)
    expected[20:35, :20] = footage.GREY  # the crop begins at image px 10
    np.testing.assert_array_equal(hidden, expected)
    halves = read_crops(tmp_path, still, boxes, np.array([1]), 30, worker, occluders)
    assert (halves[0] == footage.GREY).all(-1).sum() == pytest.approx(20 * 15 / 4, abs=10)


def broken_files(root):
    write_video(root / "whole.mp4", [numbered(i) for i in range(40)], 50)
    content = (root / "whole.mp4").read_bytes()
    (root / "cut.mp4").write_bytes(content[: len(content) // 2])
    (root / "text.avi").write_text("#EXTM3U\n/etc/passwd\n")
    (root / "empty.mp4").write_bytes(b"")
    with av.open(str(root / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)).save(root / "whole.jpg")
    content = (root / "whole.jpg").read_bytes()
    (root / "cut.jpg").write_bytes(content[: len(content) // 2])
    (root / "text.jpg").write_text("not an image")
    Image.new("1", (9000, 9000)).save(root / "bomb.png")
    Image.new("RGB", (9, 9)).save(root / "other.gif")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "cut.mp4",
            r"cannot be read \(.*Invalid data.*\); expected a video \(AVI or MP4\) as docs/datasets/human36m.md",
        ),
        ("text.avi", r"cannot be read \(.*Invalid data"),
        ("empty.mp4", r"cannot be read \(.*Invalid data"),
        ("sound.mp4", r"has no video stream; expected one; copy it"),
        ("none.mp4", r"is missing; expected a video \(AVI or MP4\) as docs/datasets/human36m.md says"),
        ("cut.jpg", r"cannot be read \(OSError: .*truncated.*\); expected an image \(JPEG or PNG\) as .*; copy it"),
        ("text.jpg", r"cannot be read \(UnidentifiedImageError"),
        ("bomb.png", r"has 9000 x 9000 px; expected at most"),
        ("other.gif", r"cannot be read \(UnidentifiedImageError"),
        ("none.jpg", r"is missing; expected an image \(JPEG or PNG\) as docs/datasets/human36m.md says, unpacked"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path, worker, name, message):
    root = tmp_path / "human36m"
    root.mkdir()
    broken_files(root)
    with pytest.raises(UserError, match=rf"{name}: {message}") as refused:
        if name.endswith((".mp4", ".avi")):
            numbers(root, name, [0, 30], worker)
        else:
            crop_files(root, [name], np.array([[4.0, 4, 8]]), 8, worker)
    assert "\n" not in str(refused.value)
    assert numbers(root, "whole.mp4", [30], worker) == [30]  # the next file is read


@pytest.mark.parametrize("name", ["b_frames.mp4", "b_frames.avi", "stills.avi", "still.jpg", "still.png"])
def test_mutations_are_read_or_refused_in_one_line(tmp_path, worker, name):
    whole, is_video = tmp_path / name, name in CODECS
    if is_video:
        write_video(whole, [numbered(i) for i in range(12)], 50, **CODECS[name])
    else:
        Image.fromarray(numbered(5)).save(whole)
    refused = 0
    for number, content in enumerate(mutations(whole.read_bytes())):
        path = tmp_path / f"{number}{whole.suffix}"  # another name each time: the worker keeps a video open
        path.write_bytes(content)
        try:
            if is_video:
                numbers(tmp_path, path.name, [0, 7, 11], worker)
            else:
                crop_files(tmp_path, [path.name], np.array([[4.0, 4, 8]]), 8, worker)
        except UserError as error:
            refused += 1
            assert "\n" not in str(error) and path.name in str(error)
        path.unlink()
    assert refused


CAMERA = Camera(np.array([[100.0, 0, 36], [0, 100, 36], [0, 0, 1]]), np.eye(3), np.zeros(3), size=(SIZE, SIZE))


def clip_of(cameras, frames=4, fps=50.0, subject="S1", action="Seq1", **attributes):
    pose = np.ones((frames, 17, 3))
    views = {name: View(name, np.zeros((frames, 17, 2))) for name in cameras}
    views |= {name + OCCLUDED: replace(view) for name, view in views.items()}
    cameras = dict.fromkeys(cameras, CAMERA)
    return Clip("clip", pose, np.ones(17, bool), subject, action, fps, "x", attributes, cameras, views)


@pytest.mark.parametrize(
    ("reader", "clip", "view", "path", "first"),
    [
        (
            "humaneva",
            clip_of(("C1", "C2", "C3"), subject="S2", action="Box", first_image=[31, 28, 40]),
            "C2",
            "S2/Image_Data/Box_1_(C2).avi",
            27,
        ),
        ("mpi_inf_3dhp", clip_of(("cam0", "cam8"), first_image=1), "cam8", "S1/Seq1/imageSequence/video_8.avi", 0),
        (
            "mpi_inf_3dhp",
            clip_of(("cam0",), first_image=21, image_folder="mpi_inf_3dhp_test_set/TS3/imageSequence"),
            "cam0",
            "mpi_inf_3dhp_test_set/TS3/imageSequence/img_%06d.jpg",
            21,
        ),
        (
            "penn_action",
            clip_of(("camera",), first_image=1, image_folder="Penn_Action/frames/0001"),
            "camera",
            "Penn_Action/frames/0001/%06d.jpg",
            1,
        ),
    ],
)
def test_where_the_frames_of_a_view_are(reader, clip, view, path, first):
    assert reader in footage.RECORDED
    for name in (view, view + OCCLUDED):
        found = footage_of(reader, clip, name)
        assert found.path == path
        assert found.frames.tolist() == [first, first + 1, first + 2, first + 3]


@pytest.mark.parametrize(("recorded", "fps"), [(50, 25), (60, 50), (25, 50), (30, 50), (50, 24), (30, 25)])
def test_a_resampled_clip_has_the_nearest_recorded_frames(recorded, fps):
    # official.resample takes an attribute of each frame from the nearest recorded one
    clip = clip_of(("cam0",), frames=100, fps=float(recorded), first_image=11, activity=np.arange(100))
    for again in (official.resample(clip, float(fps)), official.resample(clip, float(recorded))):
        frames = footage_of("mpi_inf_3dhp", again, "cam0").frames
        np.testing.assert_array_equal(frames, 10 + again.attributes["activity"])
        times = np.arange(len(frames)) / again.fps
        assert np.abs((frames - 10) / recorded - times).max() <= 0.5 / recorded + 1e-9


def test_a_trial_of_human36m_is_read_from_its_video(tmp_path, worker):
    release = human36m.Release(tmp_path / "human36m")
    release.add("S9", "Walking 1", 40)
    release.add("S9", "Walking", 5)
    release.add_metadata()
    video = release.root / "S9/Videos/Walking 1.55011271.mp4"
    write_video(video, [numbered(i) for i in range(44)], 50, bf=2, g=30)
    clips = human36m_reader.read_clips(release.root, tmp_path / "cache", ["S9"], ["Walking"])
    clip = next(clip for clip in clips if clip.attributes["trial"] == "Walking 1")
    found = footage_of("human36m", clip, "55011271")
    seen = read_crops(release.root, found, np.tile(WHOLE, (40, 1)), np.array([0, 39, 20]), SIZE, worker)
    assert [number_of(image) for image in seen] == [0, 39, 20]
    slow = footage_of("human36m", official.resample(clip, 10.0), "55011271")
    assert slow.frames.tolist() == [0, 5, 10, 15, 20, 25, 30, 35]
    absent = footage_of("human36m", clip, "60457274")
    with pytest.raises(UserError, match=r"S9/Videos/Walking 1\.60457274\.mp4: is missing.*docs/datasets/human36m.md"):
        read_crops(release.root, absent, np.tile(WHOLE, (40, 1)), np.array([0]), SIZE, worker)
    clip.attributes["broken_video"] = "55011271"
    with pytest.raises(UserError, match=r"Walking 1\.55011271\.mp4 cannot be decoded, a known fault; .*leave the view"):
        footage_of("human36m", clip, "55011271")


def test_a_run_of_frames_of_3dpw_is_read_from_its_images(tmp_path, worker):
    name, root = "downtown_walk_00", tmp_path / "three_dpw"
    three_dpw.write(root, {("test", name): three_dpw.sequence(name, 1, 12, invalid=[(0, 3)])})
    folder = root / "imageFiles" / name
    folder.mkdir(parents=True)
    for i in range(12):
        Image.fromarray(numbered(i)).save(folder / f"image_{i:05d}.jpg", quality=95)
    for clip in three_dpw_reader.read_clips(root, ["test"], tmp_path / "cache"):
        frames, first = len(clip.joints3d), clip.attributes["first_image"]
        found = footage_of("three_dpw", clip, "camera")
        seen = read_crops(root, found, np.tile(WHOLE, (frames, 1)), np.arange(frames), SIZE, worker)
        assert [number_of(image) for image in seen] == list(range(first, first + frames))
