"""Writes known motion as HumanEva-I's official files, by the release code v1.1 and C3D's manual (not the reader).

A segment of the marker set (Plug-in Gait) is four points: its origin, then one each along z, x and y (names in O, P, A,
L). Origins move in straight lines and segments turn at constant rates, so that what the toolbox interpolates is exact.
"""

import struct

import numpy as np
from scipy.io import savemat
from scipy.spatial.transform import Rotation

from isopose.datasets.humaneva import FOREARMS, MARKERS

RATE = 120.0
PREFIX = "Subj:"
SEGMENTS = ("PEL", "TRX", "HED", *(f"{s}{part}" for s in "LR" for part in ("FEM", "TIB", "CLO", "HUM", "RAD")))
LABEL = {"PEL": "PEL", "TRX": "TRX", "HED": "HED"} | {
    f"{s}{part}": f"{s}{short}"
    for s in "LR"
    for part, short in {"FEM": "FE", "TIB": "TI", "CLO": "CL", "HUM": "HU", "RAD": "RA"}.items()
}
ORIGINS = {"PEL": (0, 0, 950), "TRX": (20, 0, 1450), "HED": (40, 0, 1600)} | {
    f"{s}{part}": (x, y * sign, z)
    for s, sign in (("L", 1), ("R", -1))
    for part, (x, y, z) in {
        "FEM": (30, 100, 500),
        "TIB": (10, 110, 90),
        "CLO": (5, 180, 1420),
        "HUM": (0, 250, 1130),
        "RAD": (60, 260, 880),
    }.items()
}
"""Where a standing person's segments have their origins, mm, z up: femur at the knee, tibia at the ankle, and so on."""

LENGTH = {"LFEM": 440.0, "RFEM": 430.0}
"""Origin to the point along z; the femur's is the hip."""

SHOULDERS = 384.0
OFFSETS = {"L": 45.0, "R": 52.0}
STEP, CAPTURE, IMAGES = 2.01, 22.5, (11, 12, 11, 11, 13, 11, 11)
"""Motion capture frames an image; one of them, and the image of each camera at its time, all from 1."""

START = CAPTURE - 10 * STEP
"""The motion capture frame of frame 1, which is image 1 of the camera that started last."""


def origin(segment, time):
    """Origin (3,), mm, at a motion capture frame (from 1)."""
    shift = np.array([1.5 * time, 0.3 * time, 0.0]) + 0.02 * time * np.array([len(segment), segment < "M", 1])
    return np.array(ORIGINS[segment], float) + shift


def axes(segment, time):
    """Axes (3, 3), x, y, z in columns."""
    number = SEGMENTS.index(segment)
    tilt = Rotation.from_euler("xyz", [0.05 * number, 0.1 - 0.02 * number, 0.2])
    turn = np.array([0.002, -0.001, 0.003]) * (1 + number % 3)
    return (tilt * Rotation.from_rotvec(turn * time)).as_matrix()


def markers(frames):
    """Points (frames, N, 3), mm, and labels (N,): the 39 markers, then the segments, as Vicon orders them."""
    names = [*MARKERS, *(pair[n % 2] for n, pair in enumerate(FOREARMS))]
    points = [[origin("TRX", t) + (10 * n, 5 * n + 1, 3 * n) for n in range(len(names))] for t in range(1, frames + 1)]
    labels = names + [LABEL[segment] + letter for segment in SEGMENTS for letter in "OPAL"]
    for t, frame in enumerate(points, start=1):
        for segment in SEGMENTS:
            o, (x, y, z) = origin(segment, t), axes(segment, t).T
            frame += [o, o + LENGTH.get(segment, 150.0) * z, o + 50 * x, o + 50 * y]
    return np.array(points), [PREFIX + label for label in labels] + ["*110"]


def markers_of(joints):
    """Points (T, N, 3), mm, and labels that stand for joints {name: (T, 3), mm}, one row a motion capture frame.

    The toolbox's geometry, turned round: segments lie so that both its points of a doubled joint are the joint. The
    pelvis lies 50 mm behind its segment's origin; a head 316.103 mm above the thorax comes out as it is.
    """
    parts = {"HED": (joints["thorax"], _axes(joints["head"] - joints["thorax"]), 150.0)}
    parts["TRX"] = (joints["thorax"], _axes(joints["thorax"] - joints["pelvis"]), 150.0)
    length = _norm(joints["thorax"] - joints["pelvis"])
    lean = np.arctan2((SHOULDERS / 2 - 7) / 2, length)
    pelvis = _leaning(_axes(joints["thorax"] - joints["pelvis"]), lean)
    parts["PEL"] = (joints["pelvis"] + 50 * pelvis[..., 0], pelvis, 150.0)
    for side in "LR":
        hip, knee, ankle, shoulder, elbow, wrist = (
            joints[f"{side.lower()}_{name}"] for name in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
        )
        parts[f"{side}FEM"] = (knee, _axes(hip - knee), _norm(hip - knee))
        parts[f"{side}TIB"] = (ankle, _axes(knee - ankle), 150.0)
        parts[f"{side}CLO"] = (shoulder, np.broadcast_to(np.eye(3), (len(hip), 3, 3)), 150.0)
        angle = np.arctan2(OFFSETS[side] / 2, _norm(shoulder - elbow))
        arm = _leaning(_axes(shoulder - elbow), -angle)
        end = shoulder - arm[..., 2] * _norm(shoulder - elbow)[:, None]
        parts[f"{side}HUM"] = (end, arm, 150.0)
        parts[f"{side}RAD"] = (end + wrist - elbow, _leaning(_axes(elbow - wrist), angle), 150.0)
    names = [*MARKERS, *(pair[0] for pair in FOREARMS)]
    points = [joints["thorax"] + (10 * n, 5 * n + 1, 3 * n) for n in range(len(names))]
    labels = names + [LABEL[segment] + letter for segment in SEGMENTS for letter in "OPAL"]
    for segment in SEGMENTS:
        o, axes_, along = parts[segment]
        points += [o, o + np.reshape(along, (-1, 1)) * axes_[..., 2], o + 50 * axes_[..., 0], o + 50 * axes_[..., 1]]
    return np.stack(points, axis=1), [PREFIX + label for label in labels]


def _norm(vectors):
    return np.linalg.norm(vectors, axis=-1)


def _axes(along):
    """Axes (T, 3, 3), x, y, z in columns, with z along vectors (T, 3); x lies as the first frame's does."""
    z = along / _norm(along)[:, None]
    x = np.cross(np.broadcast_to(np.cross(z[0], np.roll(z[0], 1)), z.shape), z)
    x /= _norm(x)[:, None]
    return np.stack([x, np.cross(z, x), z], axis=-1)


def _leaning(axes_, angle):
    """Axes that are turned about y so that what lies along their cos z - sin x lay along z before."""
    x, y, z = np.moveaxis(axes_, -1, 0)
    s, c = np.sin(angle)[:, None], np.cos(angle)[:, None]
    return np.stack([c * x - s * z, y, s * x + c * z], axis=-1)


def _between(point, time):
    """A point on the straight line between captured frames."""
    first = np.floor(time)
    return point(first) + (time - first) * (point(first + 1) - point(first))


def _length(one, other, time):
    return np.mean([np.linalg.norm(one(t) - other(t)) for t in (np.floor(time), np.ceil(time))])


def joints(time):
    """Joints by name, mm, at a motion capture frame: the toolbox's geometry, segment by segment."""
    found = {}
    length = _length(lambda t: origin("TRX", t), lambda t: origin("PEL", t), time)
    lean = np.arctan2((SHOULDERS / 2 - 7) / 2, length)
    x, _, z = axes("PEL", time).T
    found["pelvis"] = origin("PEL", time) - 50 * x
    top = found["pelvis"] + length * (np.cos(lean) * z - np.sin(lean) * x)
    found["thorax"] = (top + origin("TRX", time)) / 2
    found["head"] = origin("TRX", time) + 316.103 * axes("HED", time)[:, 2]
    for side in "LR":

        def hip(t, s=side):
            return origin(f"{s}FEM", t) + LENGTH[f"{s}FEM"] * axes(f"{s}FEM", t)[:, 2]

        def at(part, s=side):
            return lambda t: origin(f"{s}{part}", t)

        end = _between(hip, time) - _length(hip, at("FEM"), time) * axes(f"{side}FEM", time)[:, 2]
        found[f"{side.lower()}_hip"] = _between(hip, time)
        found[f"{side.lower()}_knee"] = (end + at("FEM")(time)) / 2
        ankle = at("FEM")(time) - _length(at("FEM"), at("TIB"), time) * axes(f"{side}TIB", time)[:, 2]
        found[f"{side.lower()}_ankle"] = ankle
        upper, lower = _length(at("CLO"), at("HUM"), time), _length(at("HUM"), at("RAD"), time)
        angle = np.arctan2(OFFSETS[side] / 2, upper)
        x, _, z = axes(f"{side}HUM", time).T
        shoulder = at("CLO")(time)
        elbow = shoulder - upper * (np.sin(angle) * x + np.cos(angle) * z)
        start = elbow + at("HUM")(time) - (shoulder - upper * z)
        x, _, z = axes(f"{side}RAD", time).T
        found[f"{side.lower()}_shoulder"] = shoulder
        found[f"{side.lower()}_elbow"] = (elbow + start) / 2
        found[f"{side.lower()}_wrist"] = start + lower * (np.sin(angle) * x - np.cos(angle) * z)
    return found


def save_mat(path, points, labels):
    """As mocap_stream.m saves readc3d.m's output: Markers (F, N, 3) and structs in structs, texts in cells."""

    def cell(*texts):
        value = np.empty((1, len(texts)), object)
        value[0] = [np.array(text) for text in texts]
        return value

    def structs(*rows):
        value = np.empty((1, len(rows)), [(name, object) for name in rows[0]])
        for number, row in enumerate(rows):
            value[0, number] = tuple(row.values())
        return value

    def parameter(name, data):
        return {"name": cell(name), "datatype": -1.0, "dim": np.zeros((1, 2)), "data": data, "description": cell("")}

    def group(name, *parameters):
        return {"name": cell(name), "description": cell(""), "Parameter": structs(*parameters)}

    groups = structs(
        group("POINT", parameter("UNITS", cell("mm")), parameter("LABELS", cell(*labels))),
        group("ANALOG", parameter("LABELS", cell("none"))),
    )
    content = {"Markers": points, "VideoFrameRate": RATE, "AnalogSignals": np.zeros((0, 0)), "ParameterGroup": groups}
    savemat(path, content, do_compression=True)


def save_c3d(path, points, labels, scale=-0.1, analog=2):
    """A C3D file; floating point where the scale is negative. The last record of the parameters is locked."""

    def record(number, name, body, locked=False):
        head = struct.pack("<bb", -len(name) if locked else len(name), number)
        return head + name + struct.pack("<H", len(body) + 2) + body

    width = max(map(len, labels))
    text = b"".join(label.ljust(width).encode() for label in labels)
    parameters = record(-1, b"POINT", b"\0") + record(-2, b"ANALOG", b"\0")
    parameters += record(2, b"LABELS", struct.pack("<bBBB", -1, 2, 2, 1) + b"FX" + b"\0")
    parameters += record(1, b"LABELS", struct.pack("<bBBB", -1, 2, width, len(labels)) + text + b"\0", locked=True)
    parameters += bytes(2)
    blocks = -(-(len(parameters) + 4) // 512)
    section = (struct.pack("<BBBB", 1, 80, blocks, 84) + parameters).ljust(512 * blocks, b"\0")
    frames, count = points.shape[:2]
    header = struct.pack("<BBHHHHHfHHf", 2, 80, count, analog, 1, frames, 10, scale, 2 + blocks, 1, RATE)
    kind = "<f4" if scale < 0 else "<i2"
    stored = points if scale < 0 else np.round(points / scale)
    rows = np.concatenate([stored, np.zeros((frames, count, 1))], axis=2).reshape(frames, -1)
    rows = np.concatenate([rows, np.ones((frames, analog))], axis=1).astype(kind)
    path.write_bytes(header.ljust(512, b"\0") + section + rows.tobytes())


def camera(number):
    """K without skew, R, T (m) of a camera at chest height, world z up."""
    angle = 0.4 + 2 * number
    away = -np.array([np.cos(angle), np.sin(angle), 0.1])
    away /= np.linalg.norm(away)
    right = np.cross(away, [0, 0, 1])
    right /= np.linalg.norm(right)
    turn = np.stack([right, np.cross(away, right), away])
    return np.array([640.0, 650]), np.array([325.0, 245]), turn, np.array([0, 0, 1.0]) - 4 * away


DISTORTION = (-0.2, 0.1, 0.001, -0.002, 0.0)
ALPHA = 0.001


def write_subject(root, subject, actions, frames, save=save_mat, suffix=".mat", hidden=()):
    """The files of a subject; hidden: (motion capture frame from 1, label) that were not seen."""
    points, labels = markers(frames)
    for time, label in hidden:
        points[time - 1, labels.index(PREFIX + label)] = 0
    for folder in ("Mocap_Data", "Calibration_Data", "Sync_Data"):
        (root / subject / folder).mkdir(parents=True, exist_ok=True)
    mocap = root / subject / "Mocap_Data"
    for action in actions:
        save(mocap / f"{action}_1{suffix}", points, labels[: points.shape[1]])
    static = points[:5].copy()
    static[:, labels.index(PREFIX + "LSHO")] = (10, SHOULDERS / 2, 1400)
    static[:, labels.index(PREFIX + "RSHO")] = (10, -SHOULDERS / 2, 1400)
    save(mocap / f"Static{suffix}", static, labels[: points.shape[1]])
    lines = ("$Bodymass = 70", f"$LShoulderOffset = {OFFSETS['L']}", f"$RShoulderOffset = {OFFSETS['R']}")
    (mocap / f"{subject}.mp").write_text("\r\n".join(lines))
    for number in range(3):
        focal, centre, turn, position = camera(number)
        values = [*focal, *centre, ALPHA, *DISTORTION, *turn.ravel(), *(-turn @ position * 1000)]
        text = "\n".join(f"{value:.12g}" for value in values)
        (root / subject / "Calibration_Data" / f"C{number + 1}.cal").write_text(text + "\n")
    write_offsets(root, subject, actions)


def write_offsets(root, subject, actions, images=IMAGES, capture=CAPTURE):
    """At a motion capture frame, the image of each camera; and the rate."""
    for action in actions:
        for name, image in zip(("C1", "C2", "C3", "BW1", "BW2", "BW3", "BW4"), images, strict=True):
            path = root / subject / "Sync_Data" / f"{action}_1_({name}).ofs"
            path.write_text(f"{image}\n{capture}\n{STEP}\n")
