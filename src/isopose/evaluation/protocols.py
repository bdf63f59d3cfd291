"""How the field averages errors: over frames, and over actions (each action counting the same, as in the paper); and
the official protocols of data sets, which also say which joints count."""

from typing import NamedTuple

import numpy as np

from isopose.arrays import check_array
from isopose.evaluation.metrics import auc_3d, p_mpjpe, pck_3d
from isopose.skeleton import JOINTS, NUM_JOINTS, index


def over_frames(sums: np.ndarray, counts: np.ndarray) -> float:
    """Mean error a frame from the summed errors `(N,)` and frame counts `(N,)` of groups of frames."""
    return float(np.sum(sums) / np.sum(counts))


def over_actions(sums: np.ndarray, counts: np.ndarray, actions: np.ndarray) -> float:
    """Mean over the actions of the mean error of their frames; actions `(N,)` are the groups' names.

    An action without a counted frame is left out.
    """
    names, index = np.unique(actions, return_inverse=True)
    total, frames = (np.bincount(index, values, len(names)) for values in (sums, counts))
    return float(np.mean(total[frames > 0] / frames[frames > 0]))


class Near(NamedTuple):
    """Shares, 0..1, of near joints: PCK at 150 mm and AUC, and of how many frames."""

    pck: float
    auc: float
    frames: int


MPI_INF_3DHP_ACTIVITIES = (
    "Standing/Walking",
    "Exercising",
    "Sitting",
    "Reaching/Crouching",
    "On The Floor",
    "Sports",
    "Miscellaneous",
)
"""Names of the activities 1 to 7 (mpii_get_activity_name.m)."""

MPI_INF_3DHP_JOINTS = tuple(name for name in JOINTS if name not in ("pelvis", "spine", "neck"))
"""The 14 joints of mpii_get_pck_auc_joint_groups.m: head top, neck (here: thorax), limbs."""


def mpi_inf_3dhp(
    predicted: np.ndarray, target: np.ndarray, activities: np.ndarray, scenes: np.ndarray
) -> dict[str, Near]:
    """PCK and AUC as MPI-INF-3DHP's test_util counts them: root-relative, not aligned, of the 14 joints.

    predicted, target `(N, 17, 3)`, m, all valid frames of the test set; activities `(N,)` 1 to 7; scenes `(N,)` names.
    Returns them for "All", each activity and each scene, without those that have no frame. Every joint of every frame
    counts the same, also in "All" (mpii_evaluate_errors.m): it is no mean of the activities or of the sequences.
    """
    check_array("predicted", predicted, ("N", NUM_JOINTS, 3))
    check_array("target", target, (len(predicted), NUM_JOINTS, 3), finite=True)
    for name, values in {"activities": activities, "scenes": scenes}.items():
        check_array(name, values, (len(predicted),))
    if not np.isin(activities, np.arange(len(MPI_INF_3DHP_ACTIVITIES)) + 1).all():
        raise ValueError(f"activities: expected 1 to {len(MPI_INF_3DHP_ACTIVITIES)}, found {sorted(set(activities))}")
    counted = [index(name) for name in MPI_INF_3DHP_JOINTS]
    poses = [(pose - pose[:, :1])[:, counted] for pose in (predicted, target)]
    pck, auc = pck_3d(*poses), auc_3d(*poses)
    groups = {"All": np.ones(len(pck), bool)}
    groups |= {name: activities == number for number, name in enumerate(MPI_INF_3DHP_ACTIVITIES, start=1)}
    groups |= {str(name): scenes == name for name in np.unique(scenes)}
    return {
        name: Near(float(pck[frames].mean()), float(auc[frames].mean()), int(frames.sum()))
        for name, frames in groups.items()
        if frames.any()
    }


HUMANEVA_JOINTS = tuple(name for name in JOINTS if name not in ("spine", "neck"))
"""The 15 joints that HumanEva has."""


def humaneva(
    predicted: np.ndarray, target: np.ndarray, subjects: np.ndarray, actions: np.ndarray
) -> tuple[dict[tuple[str, str], float], float]:
    """P-MPJPE of HumanEva-I's 15 joints by (subject, action), and the average that tables print, of these cells.

    predicted, target `(N, 17, 3)`, any one unit, of all frames and views; subjects, actions `(N,)` names. A cell is
    the mean of its frames. The head of S3 counts, wrong as it is, because it does in published numbers.
    """
    check_array("predicted", predicted, ("N", NUM_JOINTS, 3))
    for name, values in {"subjects": subjects, "actions": actions}.items():
        check_array(name, values, (len(predicted),))
    joints = [index(name) for name in HUMANEVA_JOINTS]
    error = p_mpjpe(predicted[:, joints], target[:, joints])
    pairs = sorted(set(zip(subjects.tolist(), actions.tolist(), strict=True)))
    cells = {pair: float(error[(subjects == pair[0]) & (actions == pair[1])].mean()) for pair in pairs}
    return cells, float(np.mean(list(cells.values())))
