"""Writes known motion as MPI-INF-3DHP's official files, from its README and utility scripts (not from the reader).

Training: README.txt ("x1,y1,z1,x2,...", cells a camera, `cameras` from 0), mpii_get_joint_set.m (names), the text that
Skeletool writes (x = R X + t, mm, y up). Test: arrays as MATLAB 7.3 stores (3, 17, 1, F), so (F, 1, 17, 3) in HDF5.
"""

import h5py
import numpy as np
from scipy.io import savemat

from isopose.skeleton import JOINTS

ALL_JOINTS = (
    *("spine3", "spine4", "spine2", "spine", "pelvis", "neck", "head", "head_top"),
    *("left_clavicle", "left_shoulder", "left_elbow", "left_wrist", "left_hand"),
    *("right_clavicle", "right_shoulder", "right_elbow", "right_wrist", "right_hand"),
    *("left_hip", "left_knee", "left_ankle", "left_foot", "left_toe"),
    *("right_hip", "right_knee", "right_ankle", "right_foot", "right_toe"),
)
RELEVANT_JOINTS = [ALL_JOINTS[i - 1] for i in (8, 6, 15, 16, 17, 10, 11, 12, 24, 25, 26, 19, 20, 21, 5, 4, 7)]
OURS = {"pelvis": "pelvis", "spine": "spine", "neck": "thorax", "head": "neck", "head_top": "head"} | {
    f"{side}_{joint}": f"{side[0]}_{joint}"
    for side in ("left", "right")
    for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
}
"""Official name -> the skeleton's; the other official joints have no partner."""

SCALE = 1.0625
"""univ_annot3 over annot3."""


def official(joints, names):
    """Joints (F, 17, 3), m, z up, as (F, len(names), 3), mm, y up; joints without a partner lie beside the pelvis."""
    picked = [joints[:, JOINTS.index(OURS[n])] if n in OURS else joints[:, 0] + 0.01 * i for i, n in enumerate(names)]
    x, y, z = np.moveaxis(1000 * np.stack(picked, axis=1), -1, 0)
    return np.stack([y, z, x], axis=-1)


def camera(number):
    """K (3, 3), R (3, 3), t (3,) mm of a camera in a ring of 14, y up, rounded as Skeletool writes."""
    angle = 2 * np.pi * number / 14
    away = -np.array([np.sin(angle), 0.1, np.cos(angle)])
    away /= np.linalg.norm(away)
    right = np.cross(away, [0, 1, 0])
    right /= np.linalg.norm(right)
    turn = np.stack([right, np.cross(away, right), away])
    centre = np.array([0, 1000, 0]) - 4000 * away
    intrinsic = np.array([[1497.693 + number, 0, 1024.704], [0, 1497.103, 1051.394], [0, 0, 1]])
    return intrinsic, np.round(turn, 9), np.round(-turn @ centre, 6)


def calibration_text(numbers=range(14)):
    lines = ["Skeletool Camera Calibration File V1.0"]
    for number in numbers:
        intrinsic, turn, t = camera(number)
        k = np.eye(4)
        k[:3, :3] = intrinsic
        e = np.eye(4)
        e[:3, :3], e[:3, 3] = turn, t
        lines += [
            f"name          {number}",
            "  sensor      10 10",
            "  size        2048 2048",
            "  animated    0",
            "  intrinsic   " + " ".join(f"{v:.10g}" for v in k.ravel()) + " ",
            "  extrinsic   " + " ".join(f"{v:.10g}" for v in e.ravel()) + " ",
            "  radial      0",
        ]
    return "\n".join(lines) + "\n"


def annotations(joints):
    """The variables of annot.mat for world joints (F, 17, 3), m, z up."""
    points = official(joints, ALL_JOINTS)
    cells = {name: np.empty((14, 1), object) for name in ("annot2", "annot3", "univ_annot3")}
    for number in range(14):
        intrinsic, turn, t = camera(number)
        seen = points @ turn.T + t
        pixels = seen @ intrinsic.T
        cells["annot3"][number, 0] = seen.reshape(len(joints), -1)
        cells["univ_annot3"][number, 0] = SCALE * seen.reshape(len(joints), -1)
        cells["annot2"][number, 0] = (pixels[..., :2] / pixels[..., 2:]).reshape(len(joints), -1)
    frames = np.arange(len(joints), dtype=np.float64)[:, None]
    return cells | {"cameras": np.arange(14, dtype=np.float64)[None], "frames": frames}


def write_train(root, name, joints, **changed):
    """S*/Seq* of world joints (F, 17, 3), m, z up; changed: variables of annot.mat."""
    (root / name).mkdir(parents=True, exist_ok=True)
    savemat(root / name / "annot.mat", annotations(joints) | changed, do_compression=True)
    (root / name / "camera.calibration").write_text(calibration_text())


TEST_INTRINSIC = np.array([[1500.17, 0, 1017.39], [0, 1500.83, 1043.03], [0, 0, 1]])
CALIB = """tc camera calibration v0.3
camera	0	cam_8
	colorCorrection
		red   0 1 2 3
	frame	0
		sensorSize	10	10	# in mm
		focalLength	7.32506	# in mm
		pixelAspect	1.00044
		centerOffset	-0.0322884	0.0929296	# in mm (positive values move right and down)
		distortionModel	OpenCV
		distortion		0.0 0.0 0.0 0.0 0.0
			origin	{0}	{1}	{2}
			up	{3}	{4}	{5}
			right	{6}	{7}	{8}
"""
POSES = {
    "ts1-4cameras.calib": (3427.28, 1387.86, 309.42, -0.208215, 0.976233, 0.06014, 0.000575281, 0.0616098, -0.9981),
    "ts5-6cameras.calib": (
        *(-2104.3074, 1038.6707, -4596.6367),
        *(0.025272345, 0.995038509, 0.096227370),
        *(-0.939647257, -0.009210289, 0.342020929),
    ),
}
"""Origin, up and right of the two published files."""


def test_pose(calibration):
    """R (3, 3) and centre (3,), mm, of a published file's camera, in a world with y up."""
    origin, up, right = np.array(POSES[calibration]).reshape(3, 3)
    u, _, vt = np.linalg.svd(np.stack([right, -up, np.cross(up, right)]))
    return u @ vt, origin


def test_arrays(joints, valid, activity, calibration, intrinsic=TEST_INTRINSIC):
    """The arrays of annot_data.mat, with HDF5's axes, of world joints (F, 17, 3), m, z up."""
    turn, origin = test_pose(calibration)
    seen = (official(joints, RELEVANT_JOINTS) - origin) @ turn.T
    pixels = seen @ intrinsic.T
    return {
        "annot2": (pixels[..., :2] / pixels[..., 2:])[:, None],
        "annot3": seen[:, None],
        "univ_annot3": SCALE * seen[:, None],
        "valid_frame": np.asarray(valid, np.uint8)[:, None],
        "activity_annotation": np.asarray(activity, np.float64)[:, None],
        "bb_crop": np.zeros((len(joints), 34)),
    }


def write_mat73(path, arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in arrays.items():
            data = file.create_dataset(name, data=values, compression="gzip", track_times=False)
            data.attrs["MATLAB_class"] = np.bytes_("logical" if values.dtype == np.uint8 else "double")


def write_test(folder, name, joints, valid, activity, intrinsic=TEST_INTRINSIC, **changed):
    """TS* and test_util below the test set's own folder."""
    used = "ts1-4cameras.calib" if name < "TS5" else "ts5-6cameras.calib"
    arrays = test_arrays(joints, valid, activity, used, intrinsic)
    write_mat73(folder / name / "annot_data.mat", arrays | changed)
    for calibration, pose in POSES.items():
        path = folder / "test_util/camera_calibration" / calibration
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(CALIB.format(*pose))
