import os
import shutil
import time
from pathlib import Path

import numpy as np
import pybvh
import pytest
from scipy.spatial.transform import Rotation

from isopose.datasets import bandai_namco, bvh, cmu_mocap
from isopose.datasets.kinematics import forward_kinematics
from isopose.datasets.sources import MIRROR_VARIABLE, extract_archive
from isopose.errors import UserError
from isopose.skeleton import JOINTS

MIRROR = os.environ.get(MIRROR_VARIABLE)
needs_mirror = pytest.mark.skipif(not MIRROR, reason=f"{MIRROR_VARIABLE} names no folder with the real archives")


HIERARCHY = """HIERARCHY
ROOT hip
{{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation
  JOINT chest
  {{
    OFFSET 0 20.5 -1
    CHANNELS {inner} Zrotation Xrotation Yrotation
    JOINT head
    {{
      OFFSET 0.5 30 2
      CHANNELS {inner} Yrotation Zrotation Xrotation
      End Site
      {{
        OFFSET 0 10 0
      }}
    }}
  }}
  JOINT leg
  {{
    OFFSET 9 -4 0
    CHANNELS {inner} Zrotation Xrotation Yrotation
    End Site
    {{
      OFFSET 0 -40 0
    }}
  }}
}}
MOTION
Frames: {frames}
Frame Time: 0.0333333
"""

FLOOR_HIERARCHY = """HIERARCHY
ROOT floor
{{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT hips
  {{
    OFFSET 0 94 -3
    CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
    JOINT leg
    {{
      OFFSET 9 -4 0
      CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
      End Site
      {{
        OFFSET 0 -40 0
      }}
    }}
  }}
}}
MOTION
Frames: {frames}
Frame Time: 0.0333333
"""

OFFSETS = {"chest": (0, 20.5, -1), "head": (0.5, 30, 2), "leg": (9, -4, 0)}


def write_bvh(path, frames=5, inner_positions=False, seed=0):
    """A four-joint file with random motion; optionally with inner position channels that repeat the offsets."""
    rng = np.random.default_rng(seed)
    inner = "6 Xposition Yposition Zposition" if inner_positions else "3"
    rows = []
    for _ in range(frames):
        row = [*rng.uniform(-50, 50, 3), *rng.uniform(-170, 170, 3)]
        for name in ("chest", "head", "leg"):
            angles = rng.uniform(-170, 170, 3)
            row += [*OFFSETS[name], *angles] if inner_positions else [*angles]
        rows.append(" ".join(f"{value:.6f}" for value in row))
    path.write_text(HIERARCHY.format(frames=frames, inner=inner) + "\n".join(rows) + "\n")
    return path


def write_with_floor(path, frames=5, seed=0):
    """A file with a floor joint above the hips, both of which move; returns path and motion rows (F, 18)."""
    rng = np.random.default_rng(seed)
    rows = rng.uniform(-60, 60, (frames, 18)).round(6)
    rows[:, 12:15] = OFFSETS["leg"]
    text = "\n".join(" ".join(f"{value:.6f}" for value in row) for row in rows)
    path.write_text(FLOOR_HIERARCHY.format(frames=frames) + text + "\n")
    return path, rows


def positions_of(motion):
    return forward_kinematics(motion.parents, motion.offsets, motion.quaternions, motion.root)[0]


def library_positions(path, names):
    motion = pybvh.read_bvh_file(path, world_up="+y")
    return motion.node_positions()[:, [motion.node_index[name] for name in names]]


def test_kinematics_agree_with_the_librarys_own(tmp_path):
    path = write_bvh(tmp_path / "plain.bvh")
    motion = bvh.read(path)
    assert motion.names == ("hip", "chest", "head", "leg")
    np.testing.assert_allclose(positions_of(motion), library_positions(path, motion.names), atol=1e-9)


def test_inner_position_channels_that_repeat_the_offsets_are_dropped(tmp_path):
    plain = bvh.read(write_bvh(tmp_path / "plain.bvh"))
    inner = bvh.read(write_bvh(tmp_path / "inner.bvh", inner_positions=True))
    np.testing.assert_allclose(positions_of(inner), positions_of(plain), atol=1e-9)


def test_a_moving_floor_joint_is_folded_into_the_root(tmp_path):
    path, rows = write_with_floor(tmp_path / "floor.bvh")
    motion = bvh.read(path)
    assert motion.names == ("hips", "leg")
    floor = Rotation.from_euler("ZXY", rows[:, 3:6], degrees=True)
    hips = Rotation.from_euler("ZXY", rows[:, 9:12], degrees=True)
    pelvis = rows[:, :3] + floor.apply(rows[:, 6:9])
    leg = pelvis + (floor * hips).apply(OFFSETS["leg"])
    np.testing.assert_allclose(positions_of(motion), np.stack([pelvis, leg], axis=1), atol=1e-9)


def test_the_floor_joint_agrees_with_a_second_library(tmp_path):
    bvhio = pytest.importorskip("bvhio", reason="bvhio, an optional second BVH reader, is not installed")
    path, _ = write_with_floor(tmp_path / "floor.bvh")
    root = bvhio.readAsHierarchy(str(path))
    motion = positions_of(bvh.read(path))
    for frame in range(len(motion)):
        root.loadPose(frame)
        found = {joint.Name: joint.PositionWorld for joint, _, _ in root.layout()}
        np.testing.assert_allclose(motion[frame], [found["hips"], found["leg"]], atol=1e-3)


def test_pruning_keeps_the_way_to_the_root(tmp_path):
    path = write_bvh(tmp_path / "plain.bvh")
    motion = bvh.read(path, keep=["head"])
    assert motion.names == ("hip", "chest", "head")
    np.testing.assert_allclose(positions_of(motion), positions_of(bvh.read(path))[:, :3])


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text[:60],
        lambda text: "",
        lambda text: text.replace("Frames: 5", "Frames: 7"),
        lambda text: text.replace("Zrotation Yrotation", "Zrotation Sideways"),
        lambda text: text.rsplit(" ", 1)[0] + " nan\n",
        lambda text: text.replace("JOINT leg", "JOINT tail"),
        lambda text: text.replace("}", "", 1),
    ],
)
def test_a_broken_file_is_one_line_that_names_it(tmp_path, damage):
    good = write_bvh(tmp_path / "good.bvh")
    bad = tmp_path / "bad.bvh"
    bad.write_text(damage(good.read_text()))
    reader = bvh.read_many([good, bad, good], keep=["head", "leg"])
    assert len(next(reader).root) == 5
    with pytest.raises(UserError, match=r"bad\.bvh: .*; expected .*; ") as caught:
        next(reader)
    assert "\n" not in str(caught.value)


def test_a_reader_that_is_given_up_leaves_no_temporary_file(tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(bvh.tempfile, "tempdir", None)
    small = write_bvh(tmp_path / "small.bvh")
    large = write_bvh(tmp_path / "large.bvh", frames=20000)
    reader = bvh.read_many([small, large])
    next(reader)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in tmp_path.rglob("tmp/**/motion.bvh")):
        assert time.monotonic() < deadline
    reader.close()
    assert os.listdir(tmp_path / "tmp") == []


def test_a_moving_inner_joint_is_refused(tmp_path):
    path = write_bvh(tmp_path / "inner.bvh", inner_positions=True)
    path.write_text(path.read_text().replace("0.500000 30.000000", "0.500000 33.000000"))
    with pytest.raises(ValueError, match="head"):
        bvh.read(path)


def test_a_file_that_takes_for_ever_is_given_up(tmp_path):
    os.mkfifo(tmp_path / "endless.bvh")
    with pytest.raises(UserError, match="endless.bvh: not read within 0.2 s"):
        next(bvh.read_many([tmp_path / "endless.bvh"], seconds=0.2))


def test_a_file_that_kills_the_reader_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(bvh.sys, "executable", shutil.which("false"))
    with pytest.raises(UserError, match="x.bvh: the reader died"):
        next(bvh.read_many([tmp_path / "x.bvh"]))


@pytest.mark.parametrize("table", [cmu_mocap.JOINT_TABLE, bandai_namco.JOINT_TABLE])
def test_joint_tables_are_complete_and_symmetric(table):
    assert set(table) == set(JOINTS)
    for name, rule in table.items():
        if name.startswith("r_"):
            assert rule.joints != table["l_" + name[2:]].joints
            assert rule.offset == table["l_" + name[2:]].offset


@needs_mirror
@pytest.mark.parametrize(
    ("module", "folder", "file"),
    [
        (cmu_mocap, "cmu_mocap", "subjects/07/07_01.bvh"),
        (bandai_namco, "bandai_namco_1", "data/dataset-1_walk_normal_001.bvh"),
    ],
)
def test_real_walkers_face_their_way_with_left_on_the_left(module, folder, file, tmp_path_factory):
    cache = Path(tmp_path_factory.getbasetemp()) / "cache"
    path = extract_archive(Path(MIRROR), module.ARCHIVE, module.ARCHIVE_SHA256, cache) / folder / file
    motion = bvh.read(path)
    if module is cmu_mocap:
        np.testing.assert_allclose(positions_of(motion), library_positions(path, motion.names), atol=1e-9)
    joints = bvh.to_skeleton(motion, module.JOINT_TABLE)[10:]
    left = joints[:, JOINTS.index("l_hip"), :2] - joints[:, JOINTS.index("r_hip"), :2]
    forward = np.stack([left[:, 1], -left[:, 0]], axis=-1)
    velocity = np.gradient(joints[:, 0, :2], axis=0)
    assert ((velocity * forward).sum(axis=-1) > 0).mean() > 0.9
    for side in "rl":
        hip, knee, ankle = (joints[:, JOINTS.index(f"{side}_{name}")] for name in ("hip", "knee", "ankle"))
        assert (((knee - (hip + ankle) / 2)[:, :2] * forward).sum(axis=-1) > 0).mean() > 0.9
    assert (joints[:, JOINTS.index("head"), 2] > joints[:, JOINTS.index("pelvis"), 2] + 0.4).all()
    assert abs(joints[..., 2].min()) < 0.2
