"""Human3.6M as downloaded, from known motion: written from the official MATLAB code and readme, not from the reader.

Sources, by the names of the official release (readme.txt and H36M/*.m): H36MDataBase.m (layout of metadata.xml, w0,
file names), H36MCamera.m and ProjectPointRadial.m (cameras), H36MPoseDataAcess.m (variable Pose), TransformAngles2BVH.m
(78 columns of angles).
"""

import io
import tarfile
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
from cdflib.cdfwrite import CDF
from scipy.spatial.transform import Rotation

CAMERAS = ("54138969", "55011271", "58860488", "60457274")
SIZES = ((1000, 1002), (1000, 1000), (1000, 1000), (1000, 1002))
SUBJECTS = tuple(f"S{n}" for n in range(1, 12))
USED = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
CDF_FLOAT, CDF_DOUBLE = 44, 45

ACTIONS = (
    *("_ALL", "Directions", "Discussion", "Eating", "Greeting", "Phoning", "Posing", "Purchases", "Sitting"),
    *("SittingDown", "Smoking", "TakingPhoto", "Waiting", "Walking", "WalkingDog", "WalkTogether"),
)
NAMES = {  # file names that differ from "Action 1", "Action": subject, action -> of subaction 1, of subaction 2
    ("S9", "Greeting"): ("Greeting 1", "Greeting"),
    ("S9", "SittingDown"): ("SittingDown", "SittingDown 1"),
    ("S9", "TakingPhoto"): ("Photo 1", "Photo"),
    ("S9", "WalkingDog"): ("WalkDog 1", "WalkDog"),
    ("S5", "TakingPhoto"): ("Photo", "Photo 2"),
    ("S5", "Discussion"): ("Discussion 2", "Discussion 3"),
}


def file_name(subject, action, subaction):
    return NAMES.get((subject, action), (f"{action} 1", action))[subaction - 1]


class Rig:
    """Cameras of all subjects: the 300 numbers of w0 and what they mean."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.angles, self.centres = np.zeros((11, 4, 3)), np.zeros((11, 4, 3))
        for s in range(11):
            for c, azimuth in enumerate(np.radians([70, -70, 110, -110]) + rng.normal(0, 0.05, 4)):
                outward = np.array([np.cos(azimuth), np.sin(azimuth), 0])
                ahead = -outward - [0, 0, 0.1]
                ahead /= np.linalg.norm(ahead)
                right = np.cross(ahead, [0, 0, 1.0])
                right /= np.linalg.norm(right)
                world_to_camera = np.stack([right, np.cross(ahead, right), ahead])
                # R = Rx(a) Ry(b) Rz(c), the formula commented in H36MCamera.m
                self.angles[s, c] = Rotation.from_matrix(world_to_camera).as_euler("XYZ")
                self.centres[s, c] = 5000 * outward + [0, 0, 1500] + rng.normal(0, 50, 3)
        self.focal = 1145 + rng.normal(0, 3, (4, 2))
        self.centre = 512 + rng.normal(0, 4, (4, 2))
        self.radial = np.array([-0.2, 0.24, -0.003]) + rng.normal(0, 0.005, (4, 3))
        self.tangential = rng.normal(0, 0.0015, (4, 2))

    def w0(self):
        """H36MDataBase.loadCamera: 6 numbers a camera and subject, camera by camera; then 9 a camera."""
        outer = [np.r_[self.angles[s, c], self.centres[s, c]] for c in range(4) for s in range(11)]
        inner = [np.r_[self.focal[c], self.centre[c], self.radial[c], self.tangential[c]] for c in range(4)]
        return np.concatenate(outer + inner)

    def rotation(self, subject, c):
        a, b, g = self.angles[SUBJECTS.index(subject), c]
        ca, sa, cb, sb, cg, sg = np.cos(a), np.sin(a), np.cos(b), np.sin(b), np.cos(g), np.sin(g)
        x = np.array([[1, 0, 0], [0, ca, -sa], [0, sa, ca]])
        y = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
        z = np.array([[cg, -sg, 0], [sg, cg, 0], [0, 0, 1]])
        return x @ y @ z

    def project(self, points, subject, c):
        """ProjectPointRadial.m: pixels (..., 2) of points (..., 3), mm, world."""
        X = (points - self.centres[SUBJECTS.index(subject), c]) @ self.rotation(subject, c).T
        x, y = X[..., 0] / X[..., 2], X[..., 1] / X[..., 2]
        r2 = x**2 + y**2
        k, p = self.radial[c], self.tangential[c]
        radial = 1 + k[0] * r2 + k[1] * r2**2 + k[2] * r2**3
        tan = p[0] * y + p[1] * x
        distorted = np.stack([x * (radial + tan) + p[1] * r2, y * (radial + tan) + p[0] * r2], axis=-1)
        return distorted * self.focal[c] + self.centre[c]


def _cell(row, value):
    ET.SubElement(row, "td").text = value


def metadata_xml(rig, sizes=SIZES):
    """The parts of metadata.xml that say what the files are: mapping, actionnames, dbcameras, w0."""
    root = ET.Element("root")
    mapping = ET.SubElement(root, "mapping")
    row = ET.SubElement(mapping, "tr")
    for text in ("Action", "Subaction", *SUBJECTS):
        _cell(row, text)
    for number, action in enumerate(ACTIONS, start=1):
        for subaction in (1, 2):
            row = ET.SubElement(mapping, "tr")
            _cell(row, str(number))
            _cell(row, str(subaction))
            for subject in SUBJECTS:
                _cell(row, file_name(subject, action, subaction))
    row = ET.SubElement(mapping, "tr")  # H36MDataBase.getResolution reads row 35, the one after this
    for text in ("", "", *["0"] * 11):
        _cell(row, text)
    if sizes is not None:
        row = ET.SubElement(mapping, "tr")
        matrix = "[" + ";".join(f"{w} {h}" for w, h in sizes) + "]"
        for text in (None, None, *[matrix] * 11):
            _cell(row, text)
    names = ET.SubElement(root, "actionnames")
    for action in ACTIONS:
        ET.SubElement(names, "item").text = action
    cameras = ET.SubElement(ET.SubElement(root, "dbcameras"), "index2id")
    for camera in CAMERAS:
        ET.SubElement(cameras, "item").text = camera
    ET.SubElement(root, "w0").text = "[" + " ".join(repr(float(number)) for number in rig.w0()) + "]"
    return ET.tostring(root)


def write_pose(path, pose, majority="row_major", kind=CDF_FLOAT, compress=6):
    """One record of the zVariable Pose, (F, columns). cdflib writes bytes as they lie, whatever the majority."""
    path.parent.mkdir(parents=True, exist_ok=True)
    spec = {
        **{"Variable": "Pose", "Data_Type": kind, "Num_Elements": 1, "Rec_Vary": True, "Var_Type": "zVariable"},
        **{"Dim_Sizes": list(pose.shape), "Compress": compress},
    }
    pose = pose.astype(np.float32 if kind == CDF_FLOAT else np.float64)
    data = pose.ravel("F").reshape(pose.shape) if majority == "column_major" else pose
    with CDF(path, cdf_spec={"Majority": majority, "Encoding": 6}, delete=True) as cdf:
        cdf.write_var(spec, var_data=data[None])


def motion(frames, seed):
    """Joints (frames, 32, 3), mm, world: a person near the middle of the room; copies where the 32 have copies."""
    rng = np.random.default_rng(seed)
    rest = rng.uniform([-300, -300, 0], [300, 300, 1800], (32, 3))
    time = np.arange(frames)[:, None, None] / 25
    joints = rest + 80 * np.sin(time + rng.uniform(0, 6, (32, 3))) + [200, 400, 0] * np.sin(time / 3)
    for copy, joint in ((11, 0), (16, 13), (20, 19), (23, 22), (24, 13), (28, 27), (31, 30)):
        joints[:, copy] = joints[:, joint]
    return joints


NEAREST = {4: 3, 5: 3, 9: 8, 10: 8, 11: 0, 16: 13, 24: 13}
NEAREST |= dict.fromkeys((20, 21, 22, 23), 19) | dict.fromkeys((28, 29, 30, 31), 27)
"""The other 15 of the 32 joints, and one of the 17 that lies where they are, or a hand's or foot's length away."""


def of_skeleton(joints):
    """Joints (F, 17, 3), m, as the file's (F, 32, 3), mm."""
    whole = np.zeros((len(joints), 32, 3))
    whole[:, USED] = 1000 * joints
    whole[:, list(NEAREST)] = whole[:, list(NEAREST.values())]
    return whole


def swinging_angles(frames, seed):
    """The 78 columns of someone whose 25 joints swing, each about its own axis."""
    rng = np.random.default_rng(seed)
    swing = np.sin(np.arange(frames)[:, None] / 12 + rng.uniform(0, 6, 25))
    turns = Rotation.from_rotvec((swing[..., None] * rng.uniform(-0.5, 0.5, (25, 3))).reshape(-1, 3))
    root = 300 * np.sin(np.arange(frames)[:, None] / 40 + rng.uniform(0, 6, 3))
    return np.concatenate([root, turns.as_euler("ZXY", degrees=True).reshape(frames, 75)], axis=1)


def angles(frames, seed):
    """Root (frames, 3), mm, rotations of 25 joints (frames, 25, 3, 3), and the 78 columns that say the same."""
    rng = np.random.default_rng(seed)
    rotations = Rotation.random(frames * 25, random_state=seed).as_matrix().reshape(frames, 25, 3, 3)
    root = rng.uniform(-1000, 1000, (frames, 3))
    # BVH: channels Zrotation Xrotation Yrotation, degrees; parent from child = Rz Rx Ry
    degrees = Rotation.from_matrix(rotations.reshape(-1, 3, 3)).as_euler("ZXY", degrees=True)
    return root, rotations, np.concatenate([root, degrees.reshape(frames, 75)], axis=1)


class Release:
    """Writes trials of subjects; keeps what is true about them."""

    def __init__(self, root: Path, rig=None):
        self.root, self.rig = root, rig or Rig()
        self.joints = {}
        self.angles = {}
        root.mkdir(parents=True, exist_ok=True)

    def add(self, subject, name, frames, extra2d=0, with_2d=True, joints=None, **options):
        seed = len(self.joints)
        joints = motion(frames + extra2d, seed) if joints is None else joints
        self.joints[subject, name] = joints[:frames]
        folder = self.root / subject / "MyPoseFeatures"
        write_pose(folder / "D3_Positions" / f"{name}.cdf", joints[:frames].reshape(frames, 96), **options)
        for c, camera in enumerate(CAMERAS if with_2d else ()):
            pixels = self.rig.project(joints, subject, c).reshape(len(joints), 64)
            write_pose(folder / "D2_Positions" / f"{name}.{camera}.cdf", pixels, **options)
        self.angles[subject, name] = angles(frames, seed)
        write_pose(folder / "D3_Angles" / f"{name}.cdf", self.angles[subject, name][2], **options)

    def add_metadata(self):
        (self.root / "metadata.xml").write_bytes(metadata_xml(self.rig))

    def add_all(self, frames, subjects, **options):
        for subject in subjects:
            for action in ACTIONS[1:]:
                for subaction in (1, 2):
                    self.add(subject, file_name(subject, action, subaction), frames, **options)

    def pack(self, *subjects):
        """Turn the folders of subjects into the archives of the download page."""
        for subject in subjects:
            for kind in ("D3_Positions", "D2_Positions", "D3_Angles"):
                folder = self.root / subject / "MyPoseFeatures" / kind
                if not folder.is_dir():
                    continue
                with tarfile.open(self.root / f"Poses_{kind}_{subject}.tgz", "w:gz", dereference=True) as tar:
                    tar.add(folder, f"{subject}/MyPoseFeatures/{kind}")
                for file in folder.iterdir():
                    file.unlink()
                folder.rmdir()
            (self.root / subject / "MyPoseFeatures").rmdir()
            (self.root / subject).rmdir()


def tar_bytes(members):
    """A .tgz of (TarInfo, bytes or None)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for info, content in members:
            if content is not None:
                info.size = len(content)
            tar.addfile(info, None if content is None else io.BytesIO(content))
    return buffer.getvalue()


SYMMETRY = {  # keypoints_symmetry in data/data_utils.py of VideoPose3D
    "h36m": [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]],
    "coco": [[1, 3, 5, 7, 9, 11, 13, 15], [2, 4, 6, 8, 10, 12, 14, 16]],
    "mpii": [[3, 4, 5, 13, 14, 15], [0, 1, 2, 10, 11, 12]],
}


def write_npz(path, name, tree, layout="h36m"):
    """As prepare_data_h36m.py of VideoPose3D writes: a dict of dicts in a 0-dimensional object array."""
    metadata = {"num_joints": 16 if layout == "mpii" else 17, "keypoints_symmetry": SYMMETRY[layout]}
    np.savez_compressed(path, **{name: tree, "metadata": metadata})
