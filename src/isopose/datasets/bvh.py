"""Reads BVH motion files through pybvh, in a worker process, and maps their skeletons to the 17 joints.

Some files give inner joints position channels, which pybvh refuses. They are cut from the text before it reads it:
those of a lone child of the root (a floor joint above the hips) are folded into the root, the others must repeat the
joint's offset.
"""

import contextlib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from isopose.datasets.kinematics import forward_kinematics, resample
from isopose.errors import UserError
from isopose.skeleton import JOINTS

CENTIMETRE = 0.01
"""Both archives are in centimetres."""

SECONDS_PER_FILE = 60.0
"""A file that takes longer to read is given up (the largest real one takes half a second)."""

MEMORY_LIMIT = 4 << 30
"""Bytes of address space of the worker."""

OFFSET_TOLERANCE = 1e-3
"""How far a position channel may differ from the offset it repeats, in the file's unit."""


@dataclass(frozen=True)
class Motion:
    """Motion of a hierarchy: names and parents (J,); offsets (J, 3) and root (F, 3) in the file's unit and axes;
    quaternions (F, J, 4), local.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: np.ndarray
    quaternions: np.ndarray
    root: np.ndarray

    def at(self, times: np.ndarray) -> "Motion":
        """The motion at fractional frame numbers (T,)."""
        return Motion(self.names, self.parents, self.offsets, *resample(self.quaternions, self.root, times))


@dataclass(frozen=True)
class JointRule:
    """Where one of the 17 joints sits: the mean of some joints, and an offset in the first one's frame, file's unit."""

    joints: tuple[str, ...]
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)


def read(path: Path, keep: Sequence[str] | None = None) -> Motion:
    """Read a BVH file in this process (see :func:`read_many` for files of unknown quality).

    keep: joints wanted; the others, unless they lead to one of these, are left out.
    """
    import pybvh

    text, positions = _cut_inner_positions(Path(path).read_text())
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, "motion.bvh")
        plain.write_text(text)
        bvh = pybvh.read_bvh_file(plain, world_up="+y")
    nodes = [node for node in bvh.nodes if not node.is_end_site()]
    names = [node.name for node in nodes]
    parents = [names.index(node.parent.name) if node.parent else -1 for node in nodes]
    order = _needed(names, parents, names if keep is None else keep)
    # a BVH joint's first channel is the outermost rotation: scipy's intrinsic (upper-case) order
    rotations = [Rotation.from_euler("".join(nodes[j].rot_channels), bvh.joint_angles[:, j]) for j in order]
    motion = Motion(
        names=tuple(names[j] for j in order),
        parents=tuple(order.index(parents[j]) if parents[j] >= 0 else -1 for j in order),
        offsets=np.array([nodes[j].offset for j in order]),
        quaternions=np.stack([rotation.as_quat() for rotation in rotations], axis=1),
        root=np.array(bvh.root_pos),
    )
    if not all(np.isfinite(array).all() for array in (motion.offsets, motion.quaternions, motion.root)):
        raise ValueError("holds values that are not finite")
    return _fold_root(motion, {name: path for name, path in positions.items() if name in motion.names})


def _needed(names: Sequence[str], parents: Sequence[int], keep: Sequence[str]) -> list[int]:
    """The joints to keep and those that lead to them, in order."""
    missing = sorted(set(keep) - set(names))
    if missing:
        raise ValueError(f"lacks the joints {missing}")
    needed = {names.index(name) for name in keep}
    for joint in reversed(range(len(names))):
        if joint in needed and parents[joint] >= 0:
            needed.add(parents[joint])
    return sorted(needed)


def read_many(
    paths: Sequence[Path], keep: Sequence[str] | None = None, seconds: float = SECONDS_PER_FILE
) -> Iterator[Motion]:
    """Read files one after another in a worker process with limits on memory and on the time of each file."""
    with tempfile.TemporaryDirectory() as folder:  # the worker's own: it may be killed before it can clear up
        yield from _read_many(paths, keep, seconds, folder)


def _read_many(paths: Sequence[Path], keep: Sequence[str] | None, seconds: float, folder: str) -> Iterator[Motion]:
    read_end, write_end = os.pipe()
    receiver = Connection(read_end, writable=False)
    worker = subprocess.Popen(
        [sys.executable, "-c", f"from isopose.datasets.bvh import work; work({write_end})"],
        stdin=subprocess.PIPE,
        pass_fds=[write_end],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "TMPDIR": folder},
        text=True,
    )
    os.close(write_end)
    try:
        with contextlib.suppress(BrokenPipeError):  # a worker that is already dead is reported with its first file
            worker.stdin.write(json.dumps([[str(path) for path in paths], keep]))
            worker.stdin.close()
        for path in paths:
            yield _receive(receiver, path, seconds)
    finally:
        worker.kill()
        worker.wait()
        receiver.close()


def _receive(receiver: Connection, path: Path, seconds: float) -> Motion:
    advice = "expected a BVH motion file; fetch it again, or leave its subject or action out of the source"
    if not receiver.poll(seconds):
        raise UserError(f"{path}: not read within {seconds:g} s; {advice}")
    try:
        motion = receiver.recv()
    except EOFError as error:
        raise UserError(f"{path}: the reader died on it; {advice}") from error
    if isinstance(motion, str):
        raise UserError(f"{path}: cannot be read ({motion}); {advice}")
    return motion


def work(descriptor: int) -> None:
    """The worker of :func:`read_many`: read the files that stdin lists, send each motion or what is wrong with it."""
    import pybvh  # noqa: F401 - before the limit, which its libraries' address space counts against

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    paths, keep = json.load(sys.stdin)
    with Connection(descriptor, readable=False) as sender:
        for path in paths:
            try:
                sender.send(read(Path(path), keep))
            except BrokenPipeError:
                return
            except Exception as error:  # whatever a foreign file provokes is the file's fault, and goes back as a line
                sender.send(" ".join(str(error).split()) or type(error).__name__)


def _cut_inner_positions(text: str) -> tuple[str, Mapping[str, np.ndarray]]:
    """Remove the position channels of all joints but the root; return the text and {joint: positions (F, 3)}."""
    header, separator, body = text.partition("MOTION")
    if not separator:
        raise ValueError("has no MOTION section")
    if header.count("{") != header.count("}"):
        raise ValueError("has braces that do not match")
    columns: dict[str, list[int]] = {}
    joint, column, lines, inner = "", 0, [], False
    for line in header.splitlines():
        words = line.split()
        if words[:1] in (["ROOT"], ["JOINT"]):
            joint, inner = words[1], words[0] == "JOINT"
        if words[:1] == ["CHANNELS"]:
            channels = words[2:]
            places = {name: column + index for index, name in enumerate(channels) if name.endswith("position")}
            column += len(channels)
            if places and inner:
                columns[joint] = [places[axis + "position"] for axis in "XYZ"]
                kept = [name for name in channels if name not in places]
                line = f"CHANNELS {len(kept)} {' '.join(kept)}"
        lines.append(line)
    if not columns:
        return text, {}
    start = re.search(r"Frame Time:[^\n]*\n", body)
    if start is None:
        raise ValueError("has no Frame Time")
    rows = [row.split() for row in body[start.end() :].splitlines() if row.strip()]
    if any(len(row) != column for row in rows):
        raise ValueError(f"has a motion line without the {column} values that its hierarchy declares")
    table = np.array(rows)
    kept_columns = np.setdiff1d(np.arange(column), sum(columns.values(), []))
    motion = "\n".join(" ".join(row) for row in table[:, kept_columns])
    positions = {name: table[:, places].astype(float) for name, places in columns.items()}
    return "\n".join(lines) + "\nMOTION" + body[: start.end()] + motion + "\n", positions


def _fold_root(motion: Motion, positions: Mapping[str, np.ndarray]) -> Motion:
    """Make a moving lone child of the root the new root; check that no other joint moves against its parent."""
    moving = {
        name for name, path in positions.items()
        if np.abs(path - motion.offsets[motion.names.index(name)]).max() > OFFSET_TOLERANCE
    }  # fmt: skip
    if motion.parents.count(0) == 1 and moving == {motion.names[1]}:
        outer = Rotation.from_quat(motion.quaternions[:, 0])
        root = motion.root + outer.apply(positions[motion.names[1]])
        quaternions = motion.quaternions[:, 1:].copy()
        quaternions[:, 0] = (outer * Rotation.from_quat(quaternions[:, 0])).as_quat()
        parents = tuple(parent - 1 for parent in motion.parents[1:])
        return Motion(motion.names[1:], parents, motion.offsets[1:], quaternions, root)
    if moving:
        raise ValueError(f"joints {sorted(moving)} move against their parents, which a body's bones do not")
    return motion


def to_skeleton(motion: Motion, table: Mapping[str, JointRule]) -> np.ndarray:
    """The 17 joints (F, 17, 3), m, world frame with z up, of a motion whose file has y up and is in centimetres.

    The axes turn (x, y, z) -> (z, x, y), a rotation: a figure that faces the file's +z with its left at +x, as both
    archives' rest poses do, faces +x with its left at +y.
    """
    positions, orientations = forward_kinematics(motion.parents, motion.offsets, motion.quaternions, motion.root)
    joints = []
    for name in JOINTS:
        rule = table[name]
        members = [motion.names.index(joint) for joint in rule.joints]
        joints.append(positions[:, members].mean(axis=1) + orientations[:, members[0]] @ np.array(rule.offset))
    return np.stack(joints, axis=1)[..., [2, 0, 1]] * CENTIMETRE


def needed_joints(table: Mapping[str, JointRule]) -> list[str]:
    """The joints a table reads."""
    return sorted({joint for rule in table.values() for joint in rule.joints})
