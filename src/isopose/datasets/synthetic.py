"""Synthetic motion of named actions, from published gait and joint-range figures.

Joint angles follow tables (walking and jogging) or minimum-jerk paths between key poses (everything else), with
slow noise on top; they are clamped to anatomical limits, run through forward kinematics of a subject's body, and the
body is moved so that the supporting foot stays where it is on the floor.

Sources. Walking: rounded typical values of the hip and knee curves of Winter, *Biomechanics and Motor Control of
Human Movement* (2009), and stride times of Murray, Drought and Kory (1964); arm swing of Murray, Sepic and Barnard
(1967). Jogging: Novacheck, *The biomechanics of running* (1998). Limits: American Academy of Orthopaedic Surgeons,
*Joint Motion* (1965), where the trunk's ranges are shared between lumbar spine and chest. Key-pose paths: Flash and
Hogan (1985). Body: :mod:`isopose.datasets.body_shape`.

World frame: metres, z up. A figure with heading 0 faces +x with its left at +y. Angles are in degrees here.
"""

from collections.abc import Callable, Iterator, Sequence
from types import MappingProxyType

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from isopose.datasets.body_shape import Body, sample_body
from isopose.datasets.kinematics import forward_kinematics
from isopose.datasets.sources import Request, check_known, clip_id, derive_seed, generator, middle
from isopose.datasets.store import Clip
from isopose.errors import UserError
from isopose.skeleton import JOINTS, NUM_JOINTS

Pose = dict[str, np.ndarray | float]
"""Angle by name, degrees, each (F,) or a constant."""

JOINT_LIMITS = MappingProxyType(
    {
        "pelvis_tilt": (-30.0, 60.0),
        "pelvis_list": (-25.0, 25.0),
        "pelvis_turn": (-30.0, 30.0),
        "lumbar_flexion": (-15.0, 45.0),
        "lumbar_bend": (-20.0, 20.0),
        "lumbar_twist": (-15.0, 15.0),
        "chest_flexion": (-10.0, 35.0),
        "chest_bend": (-15.0, 15.0),
        "chest_twist": (-30.0, 30.0),
        "neck_flexion": (-40.0, 40.0),
        "neck_bend": (-40.0, 40.0),
        "neck_twist": (-60.0, 60.0),
        "head_flexion": (-15.0, 15.0),
        "hip_flexion": (-30.0, 120.0),
        "hip_abduction": (-30.0, 45.0),
        "hip_rotation": (-45.0, 45.0),
        "knee_flexion": (0.0, 135.0),
        "clavicle_elevation": (-10.0, 30.0),
        "clavicle_protraction": (-20.0, 25.0),
        "shoulder_flexion": (-60.0, 180.0),
        "shoulder_abduction": (-30.0, 180.0),
        "shoulder_rotation": (-90.0, 70.0),
        "elbow_flexion": (0.0, 150.0),
    }
)
"""Lowest and highest angle, degrees; a limb's angles are named without their side. Rotation is positive inward.
``pelvis_*`` is the trunk's orientation in the world, not a joint, and is limited to what the actions need."""

# name: (node of the rig, axis, sign). Axes: 0 = y (left), flexion; 1 = x (forward), sideways; 2 = z (up), twist.
_TRUNK_ANGLES = {
    "pelvis_tilt": ("pelvis", 0, 1), "pelvis_list": ("pelvis", 1, 1), "pelvis_turn": ("pelvis", 2, 1),
    "lumbar_flexion": ("lumbar", 0, 1), "lumbar_bend": ("lumbar", 1, 1), "lumbar_twist": ("lumbar", 2, 1),
    "chest_flexion": ("spine", 0, 1), "chest_bend": ("spine", 1, 1), "chest_twist": ("spine", 2, 1),
    "neck_flexion": ("neck_base", 0, 1), "neck_bend": ("neck_base", 1, 1), "neck_twist": ("neck_base", 2, 1),
    "head_flexion": ("neck", 0, 1),
}  # fmt: skip
_LIMB_ANGLES = {  # signs of the right side; the left side's sideways and twist angles have the opposite sign
    "hip_flexion": ("hip", 0, -1), "hip_abduction": ("hip", 1, -1), "hip_rotation": ("hip", 2, 1),
    "knee_flexion": ("knee", 0, 1),
    "clavicle_elevation": ("clavicle", 1, -1), "clavicle_protraction": ("clavicle", 2, 1),
    "shoulder_flexion": ("shoulder", 0, -1), "shoulder_abduction": ("shoulder", 1, -1),
    "shoulder_rotation": ("shoulder", 2, 1),
    "elbow_flexion": ("elbow", 0, -1),
}  # fmt: skip
SIDES = ("r", "l")
ANGLES = MappingProxyType(
    _TRUNK_ANGLES
    | {
        f"{side}_{name}": (f"{side}_{node}", axis, sign if side == "r" or axis == 0 else -sign)
        for side in SIDES
        for name, (node, axis, sign) in _LIMB_ANGLES.items()
    }
)
"""Every angle of the rig: its node, its axis and its sign."""

_RIG = (  # (node, parent, direction of the bone from the parent when standing, or None for a joint in the same place)
    ("pelvis", None, None),
    ("r_hip", "pelvis", (0, -1, 0)), ("r_knee", "r_hip", (0, 0, -1)), ("r_ankle", "r_knee", (0, 0, -1)),
    ("l_hip", "pelvis", (0, 1, 0)), ("l_knee", "l_hip", (0, 0, -1)), ("l_ankle", "l_knee", (0, 0, -1)),
    ("lumbar", "pelvis", None), ("spine", "lumbar", (0, 0, 1)), ("thorax", "spine", (0, 0, 1)),
    ("neck_base", "thorax", None), ("neck", "neck_base", (0.2, 0, 0.98)), ("head", "neck", (0, 0, 1)),
    ("l_clavicle", "thorax", None), ("l_shoulder", "l_clavicle", (0, 1, 0)),
    ("l_elbow", "l_shoulder", (0, 0, -1)), ("l_wrist", "l_elbow", (0, 0, -1)),
    ("r_clavicle", "thorax", None), ("r_shoulder", "r_clavicle", (0, -1, 0)),
    ("r_elbow", "r_shoulder", (0, 0, -1)), ("r_wrist", "r_elbow", (0, 0, -1)),
)  # fmt: skip
_NODES = tuple(node for node, _, _ in _RIG)
_RIG_PARENTS = tuple(_NODES.index(parent) if parent else -1 for _, parent, _ in _RIG)
_NODE_OF_JOINT = [_NODES.index(joint) for joint in JOINTS]

# Hip (thigh to vertical) and knee flexion, degrees, at 0, 10 ... 90 % of the stride from heel contact.
_WALK_THIGH = (26, 23, 13, 3, -6, -11, -5, 13, 26, 29)
_WALK_KNEE = (4, 15, 16, 9, 5, 11, 38, 62, 50, 16)
_JOG_THIGH = (33, 30, 17, 1, -9, -5, 12, 31, 41, 39)
_JOG_KNEE = (14, 35, 38, 26, 20, 48, 84, 94, 70, 28)
_WALK_STRIDE_HZ = 0.95
_JOG_STRIDE_HZ = 1.35
_JOG_CONTACT = 0.38
"""Share of a jogging stride that a foot is on the floor."""

GRAVITY = 9.81
_SUPPORT_SOFTNESS = 0.015
"""Height difference, m, over which the weight passes from one foot to the other."""
_JOINT_RADIUS = 0.05
"""Least height of any joint but the ankles above the floor, m."""


class _Motion:
    """The random choices and the time line of one clip, and the angles collected so far.

    t: motion time of every frame, s; rng: of the clip; style: a subject's own habits, factors and degrees.
    """

    def __init__(self, t: np.ndarray, rng: np.random.Generator, style: dict[str, float]) -> None:
        self.t, self.rng, self.style = t, rng, style
        self.heading = np.full(t.shape, rng.uniform(-180, 180))
        self.airborne = np.zeros(t.shape, bool)
        self.lift = np.zeros(t.shape)

    def noise(self, amplitude: float, low: float = 0.08, high: float = 0.6) -> np.ndarray:
        """Smooth noise (F,) of about ``amplitude`` between two frequencies, Hz."""
        frequency, phase = self.rng.uniform(low, high, 4), self.rng.uniform(0, 2 * np.pi, 4)
        return amplitude * np.sin(2 * np.pi * frequency * self.t[:, None] + phase).sum(axis=1) / 2

    def vary(self, value: float, share: float = 0.12) -> float:
        """A number within about ``share`` of ``value``."""
        return value * (1 + share * self.rng.uniform(-1, 1))

    def side(self) -> tuple[str, str]:
        """The working and the other side: ("r", "l") more often for a right-handed subject."""
        return SIDES if self.rng.random() < self.style["right_handed"] else SIDES[::-1]

    def follow(self, keys: Sequence[tuple[float, Pose]]) -> Pose:
        """Minimum-jerk paths through key poses (time s, pose); an angle a key leaves out is zero there."""
        times = np.array([time for time, _ in keys])
        names = sorted({name for _, pose in keys for name in pose})
        values = np.array([[pose.get(name, 0.0) for name in names] for _, pose in keys], float)
        before = np.clip(np.searchsorted(times, self.t, side="right") - 1, 0, len(times) - 2)
        share = np.clip((self.t - times[before]) / (times[before + 1] - times[before]), 0, 1)[:, None]
        smooth = share**3 * (10 - 15 * share + 6 * share**2)
        path = values[before] + smooth * (values[before + 1] - values[before])
        return dict(zip(names, path.T, strict=True))

    def jump(self, start: float, seconds: float) -> None:
        """Leave the floor for a ballistic flight."""
        share = (self.t - start) / seconds
        flying = (share > 0) & (share < 1)
        self.airborne |= flying
        self.lift += np.where(flying, GRAVITY * seconds**2 / 2 * share * (1 - share), 0.0)


def _add(*poses: Pose) -> Pose:
    """Sum of poses, angle by angle."""
    total: Pose = {}
    for pose in poses:
        for name, value in pose.items():
            total[name] = total.get(name, 0.0) + value
    return total


def _sided(side: str, **angles: float | np.ndarray) -> Pose:
    return {f"{side}_{name}": value for name, value in angles.items()}


def _both(**angles: float | np.ndarray) -> Pose:
    return _sided("r", **angles) | _sided("l", **angles)


def _stand(motion: _Motion) -> Pose:
    """Quiet standing: hanging arms, soft knees, slow sway and glances."""
    pose = _both(splay=3.0, knee_flexion=4.0, thigh=2.0, shoulder_abduction=7 + motion.style["arms"])
    pose |= {"pelvis_tilt": motion.style["lean"], "chest_flexion": 4.0, "neck_flexion": 5.0}
    pose |= _both(elbow_flexion=14.0)
    sway = {"pelvis_list": 1.5, "pelvis_turn": 2.5, "lumbar_flexion": 1.5, "chest_twist": 3.0, "chest_bend": 1.5}
    sway |= {"neck_twist": 12.0, "neck_flexion": 5.0, "pelvis_tilt": 1.0}
    sway |= _both(shoulder_flexion=3.0, shoulder_abduction=2.0, elbow_flexion=5.0, knee_flexion=1.0)
    return _add(pose, {name: motion.noise(amplitude) for name, amplitude in sway.items()})


def _cycle(table: Sequence[float], phase: np.ndarray) -> np.ndarray:
    """A periodic smooth curve through a table of one stride, at phases (F,) in strides."""
    knots = np.linspace(0, 1, len(table) + 1)
    return CubicSpline(knots, [*table, table[0]], bc_type="periodic")(phase % 1)


def _stride(motion: _Motion, phase: np.ndarray, amount: float | np.ndarray, jogging: bool) -> Pose:
    """Legs, hips, trunk and arms through a stride; ``amount`` scales the whole (1: the tables)."""
    thigh, knee = (_JOG_THIGH, _JOG_KNEE) if jogging else (_WALK_THIGH, _WALK_KNEE)
    swing = (28.0 if jogging else 17.0) * motion.style["swing"]
    elbow = 70.0 if jogging else 8.0
    pose: Pose = {}
    for side, start in (("r", 0.0), ("l", 0.5)):
        own = phase + start
        forward = -np.cos(2 * np.pi * own)  # the arm swings against the leg of its side
        pose |= _sided(
            side,
            thigh=amount * _cycle(thigh, own),
            knee_flexion=amount * _cycle(knee, own),
            shoulder_flexion=amount * (swing * forward - 5),
            elbow_flexion=amount * (elbow + 10 * forward),
            shoulder_rotation=amount * (15.0 if jogging else 5.0),
        )
    turn, drop = np.cos(2 * np.pi * phase), np.sin(2 * np.pi * phase)
    pose["pelvis_turn"] = amount * 5 * turn
    pose["chest_twist"] = -amount * (12 if jogging else 9) * turn
    pose["pelvis_list"] = -amount * 4 * drop
    pose["lumbar_bend"] = amount * 3 * drop
    pose["pelvis_tilt"] = amount * (8.0 if jogging else 2.0)
    return pose


def _phase(motion: _Motion, hertz: float) -> np.ndarray:
    """Phase in strides (F,), with a cadence that wanders by a few per cent."""
    wander = motion.noise(0.01 / hertz)
    return motion.rng.random() + hertz * (motion.t + wander)


def _roam(motion: _Motion, low: float, high: float) -> None:
    """Walk a bend of ``low`` to ``high`` degrees a second, which keeps the path inside the cameras' view."""
    rate = motion.rng.uniform(low, high) * motion.rng.choice([-1, 1])
    motion.heading = motion.heading + rate * motion.t + motion.noise(12)


def _walking(motion: _Motion) -> Pose:
    amount = motion.vary(motion.style["stride"], 0.15)
    _roam(motion, 20, 45)
    phase = _phase(motion, motion.vary(_WALK_STRIDE_HZ * motion.style["cadence"] * np.sqrt(amount)))
    return _add(_stand(motion), _stride(motion, phase, amount, jogging=False))


def _jogging(motion: _Motion) -> Pose:
    amount = motion.rng.uniform(0.7, 1.15)  # from a trot to a run
    _roam(motion, 45, 75)
    phase = _phase(motion, motion.vary(_JOG_STRIDE_HZ * motion.style["cadence"]))
    into_step = (2 * phase) % 1 / 2  # two steps a stride
    flight = (into_step - _JOG_CONTACT) / (0.5 - _JOG_CONTACT)
    motion.airborne = flight > 0
    motion.lift = np.where(motion.airborne, 0.12 * amount * flight * (1 - flight), 0.0)
    return _add(_stand(motion), _stride(motion, phase, amount, jogging=True))


def _turning(motion: _Motion) -> Pose:
    """Turn on the spot with small steps, look around, turn again."""
    keys, time, heading = [(0.0, {"heading": 0.0, "steps": 0.0})], 0.0, 0.0
    while time < motion.t[-1]:
        angle = motion.rng.uniform(45, 180) * motion.rng.choice([-1, 1])
        pause, length = motion.rng.uniform(0.2, 1.0), abs(angle) / motion.rng.uniform(70, 140)
        keys.append((time + pause, {"heading": heading, "steps": 0.0}))
        keys.append((time + pause + length / 2, {"heading": heading + angle / 2, "steps": 1.0}))
        time, heading = time + pause + length, heading + angle
        keys.append((time, {"heading": heading, "steps": 0.0}))
    path = motion.follow(keys)
    motion.heading = motion.heading + path["heading"]
    steps = _stride(motion, _phase(motion, motion.vary(0.9)), path["steps"] * 0.35, jogging=False)
    lean = {"neck_twist": 0.35 * np.gradient(path["heading"], motion.t)}
    return _add(_stand(motion), steps, lean)


def _boxing(motion: _Motion) -> Pose:
    lead, rear = motion.side()[::-1]
    toward = 1 if rear == "r" else -1  # the way the chest turns when the rear hand strikes
    guard = _both(thigh=22.0, knee_flexion=32.0, splay=10.0, shoulder_abduction=8.0, shoulder_rotation=25.0)
    guard |= _both(shoulder_flexion=45.0, elbow_flexion=115.0)
    guard |= {"pelvis_tilt": 6.0, "chest_flexion": 12.0, "pelvis_turn": -15.0 * toward}
    guard |= {f"{lead}_thigh": 38.0, f"{rear}_thigh": 6.0}
    keys, time = [(0.0, {})], motion.rng.uniform(0.1, 0.5)
    while time < motion.t[-1]:
        arm = lead if motion.rng.random() < 0.55 else rear
        turn = toward * (1 if arm == rear else -1)
        strike = _sided(
            arm,
            shoulder_flexion=motion.rng.uniform(25, 60),
            elbow_flexion=motion.rng.uniform(-105, -60),
            clavicle_protraction=18.0,
            shoulder_abduction=motion.rng.uniform(-5, 35),
            shoulder_rotation=motion.rng.uniform(-10, 20),
        ) | {"chest_twist": 22.0 * turn, "lumbar_twist": 9.0 * turn, "pelvis_turn": 12.0 * turn}
        out, back = motion.vary(0.17, 0.25), motion.vary(0.24, 0.25)
        keys += [(time, {}), (time + out, strike), (time + out + back, {})]
        time += out + back + motion.rng.choice([motion.rng.uniform(0.05, 0.2), motion.rng.uniform(0.4, 1.2)])
    keys.append((time + 1, {}))
    bounce = 6 * np.sin(2 * np.pi * motion.vary(1.8) * motion.t)
    motion.heading = motion.heading + motion.noise(25)
    return _add(_stand(motion), guard, motion.follow(keys), _both(knee_flexion=bounce, thigh=bounce / 2))


def _sitting_down(motion: _Motion) -> Pose:
    """Sit on a seat of knee height, stay with moving hands, get up, again."""
    depth = motion.rng.uniform(75, 95)
    seated = _both(thigh=depth, knee_flexion=depth + 3, shoulder_flexion=28.0, elbow_flexion=45.0)
    seated |= {"pelvis_tilt": -4.0, "lumbar_flexion": 10.0}
    falling = _both(thigh=0.62 * depth, knee_flexion=0.8 * depth, shoulder_flexion=25.0, elbow_flexion=20.0)
    falling |= {"pelvis_tilt": motion.vary(32.0), "lumbar_flexion": 12.0}
    keys, time = [(0.0, {})], motion.rng.uniform(0.1, 0.8)
    while time < motion.t[-1]:
        down, up = motion.vary(1.5, 0.25), motion.vary(1.3, 0.25)
        keys += [(time, {}), (time + 0.55 * down, falling), (time + down, seated)]
        time += down
        for _ in range(motion.rng.integers(1, 4)):
            arm, _ = motion.side()
            gesture = _sided(
                arm,
                shoulder_flexion=motion.rng.uniform(-10, 60),
                elbow_flexion=motion.rng.uniform(-20, 70),
                shoulder_rotation=motion.rng.uniform(-10, 40),
            ) | {"chest_twist": motion.rng.uniform(-15, 15), "lumbar_flexion": motion.rng.uniform(-10, 15)}
            time += motion.rng.uniform(0.6, 1.5)
            keys.append((time, _add(seated, gesture)))
        keys += [(time + 0.45 * up, falling), (time + up, {})]
        time += up + motion.rng.uniform(0.3, 1.2)
    keys.append((time + 1, {}))
    return _add(_stand(motion), motion.follow(keys))


def _reaching(motion: _Motion) -> Pose:
    """Reach for things from the floor to overhead, with one arm or both."""
    keys, time = [(0.0, {})], motion.rng.uniform(0.1, 0.5)
    while time < motion.t[-1]:
        arm, other = motion.side()
        lift, across = motion.rng.uniform(15, 150), motion.rng.uniform(-25, 60)
        low = max(0.0, (60 - lift) / 60)  # the lower the thing, the more knees and back bend
        reach = _sided(
            arm,
            shoulder_flexion=lift + 40 * low,
            shoulder_abduction=across,
            elbow_flexion=motion.rng.uniform(0, 40),
            clavicle_elevation=max(0.0, lift - 90) / 4,
            clavicle_protraction=12.0,
        )
        if motion.rng.random() < 0.35:
            reach |= {name.replace(f"{arm}_", f"{other}_", 1): 0.9 * value for name, value in reach.items()}
        else:
            reach["chest_twist"] = (1 if arm == "r" else -1) * motion.rng.uniform(0, 18)
        reach |= {"pelvis_tilt": 40 * low, "lumbar_flexion": 30 * low, "chest_flexion": 12 * low}
        reach |= _both(thigh=45 * low, knee_flexion=65 * low)
        out, hold, back = motion.vary(0.8, 0.4), motion.rng.uniform(0.1, 0.8), motion.vary(0.8, 0.3)
        keys += [(time, {}), (time + out, reach), (time + out + hold, reach), (time + out + hold + back, {})]
        time += out + hold + back + motion.rng.uniform(0.1, 0.6)
    keys.append((time + 1, {}))
    motion.heading = motion.heading + motion.noise(15)
    return _add(_stand(motion), motion.follow(keys))


def _waving(motion: _Motion) -> Pose:
    keys, time = [(0.0, {})], motion.rng.uniform(0.1, 0.6)
    while time < motion.t[-1]:
        for arm in SIDES if motion.rng.random() < 0.25 else motion.side()[:1]:
            high = _sided(
                arm,
                shoulder_abduction=motion.rng.uniform(45, 120),
                shoulder_flexion=motion.rng.uniform(0, 35),
                shoulder_rotation=-motion.rng.uniform(65, 90),
                elbow_flexion=motion.rng.uniform(35, 75),
                clavicle_elevation=10.0,
                wave=1.0,
            )
            stay = motion.rng.uniform(1.0, 3.0)
            keys += [(time, {}), (time + 0.6, high), (time + 0.6 + stay, high), (time + 1.3 + stay, {})]
            time += 1.3 + stay + motion.rng.uniform(0.2, 0.8)
    keys.append((time + 1, {}))
    pose = motion.follow(keys)
    beat = np.sin(2 * np.pi * motion.vary(1.8, 0.3) * motion.t)
    for side in SIDES:
        wave = pose.pop(f"{side}_wave", 0.0) * beat
        pose = _add(pose, _sided(side, elbow_flexion=22 * wave, shoulder_rotation=8 * wave))
    motion.heading = motion.heading + motion.noise(15)
    return _add(_stand(motion), pose)


def _phoning(motion: _Motion) -> Pose:
    """Hold a telephone to the ear, pace or stand, gesture with the free hand."""
    arm, other = motion.side()
    tilt = 1 if arm == "r" else -1
    hold = _sided(
        arm,
        shoulder_flexion=motion.vary(72.0),
        shoulder_abduction=motion.vary(22.0, 0.5),
        elbow_flexion=motion.vary(134.0, 0.06),
        shoulder_rotation=motion.vary(18.0, 0.4),
        clavicle_elevation=8.0,
    ) | {"neck_bend": 10.0 * tilt, "neck_twist": -10.0 * tilt}
    start, end = motion.rng.uniform(-0.5, 1.0), motion.t[-1] + motion.rng.uniform(-1.2, 1.5)
    end = max(end, start + 1)
    call = [(start - 1, {}), (start, {}), (start + 0.9, hold), (end, hold), (end + 1, {})]
    keys, time = [(0.0, {})], 0.0
    while time < motion.t[-1]:
        gesture = _sided(
            other,
            shoulder_flexion=motion.rng.uniform(0, 50),
            shoulder_abduction=motion.rng.uniform(0, 30),
            elbow_flexion=motion.rng.uniform(10, 85),
        )
        keys += [(time + 0.3, {}), (time + motion.rng.uniform(0.8, 1.5), gesture), (time + 2.2, {})]
        time += 2.2 + motion.rng.uniform(0.1, 1.5)
    pace = motion.rng.uniform(0, 0.6) * (motion.rng.random() < 0.6)
    steps = _stride(motion, _phase(motion, motion.vary(0.75)), pace, jogging=False)
    steps = {name: value for name, value in steps.items() if not name.startswith(f"{arm}_shoulder")}
    steps.pop(f"{arm}_elbow_flexion")
    if pace:
        _roam(motion, 15, 40)
    return _add(_stand(motion), steps, motion.follow(call), motion.follow(keys))


def _kicking(motion: _Motion) -> Pose:
    keys, time = [(0.0, {})], motion.rng.uniform(0.2, 0.6)
    while time < motion.t[-1]:
        leg, other = motion.side()
        arms = 1 if leg == "r" else -1
        wind = _sided(leg, thigh=-24.0, knee_flexion=motion.vary(75.0)) | _sided(other, knee_flexion=12.0, thigh=8.0)
        wind |= _sided(other, shoulder_flexion=25.0, shoulder_abduction=30.0) | {"pelvis_turn": -14.0 * arms}
        wind |= _sided(leg, shoulder_flexion=-15.0, shoulder_abduction=20.0)
        hit = _sided(leg, thigh=motion.rng.uniform(35, 90), knee_flexion=motion.rng.uniform(5, 25))
        hit |= _sided(leg, splay=motion.rng.uniform(-5, 20), shoulder_flexion=-25.0, shoulder_abduction=25.0)
        hit |= _sided(other, shoulder_flexion=45.0, shoulder_abduction=15.0, knee_flexion=14.0, thigh=6.0)
        hit |= {"pelvis_tilt": -8.0, "pelvis_turn": 14.0 * arms, "lumbar_flexion": 12.0, "chest_twist": -14.0 * arms}
        swing = motion.vary(0.24, 0.2)
        keys += [(time, {}), (time + 0.35, wind), (time + 0.35 + swing, hit), (time + 1.1 + swing, {})]
        time += 1.1 + swing + motion.rng.uniform(0.2, 0.9)
    keys.append((time + 1, {}))
    motion.heading = motion.heading + motion.noise(30)
    return _add(_stand(motion), motion.follow(keys))


def _jumping(motion: _Motion) -> Pose:
    keys, time = [(0.0, {})], motion.rng.uniform(0.1, 0.5)
    while time < motion.t[-1]:
        depth, flight = motion.rng.uniform(0.6, 1.1), motion.rng.uniform(0.28, 0.5)
        crouch = _both(thigh=55 * depth, knee_flexion=85 * depth, shoulder_flexion=-45.0, elbow_flexion=10.0)
        crouch |= {"pelvis_tilt": 28 * depth, "lumbar_flexion": 15 * depth}
        raised = motion.rng.uniform(40, 150)
        leave = _both(shoulder_flexion=raised, elbow_flexion=5.0, clavicle_elevation=raised / 8)
        tuck = motion.rng.uniform(0, 40)
        fly = _both(thigh=tuck, knee_flexion=1.4 * tuck, shoulder_flexion=0.8 * raised)
        touch = _both(thigh=15.0, knee_flexion=20.0, shoulder_flexion=0.5 * raised)
        land = _both(thigh=45 * depth, knee_flexion=65 * depth, shoulder_flexion=20.0) | {"pelvis_tilt": 20 * depth}
        off = time + motion.vary(0.55) + 0.25
        keys += [(time, {}), (off - 0.25, crouch), (off, leave), (off + flight / 2, fly), (off + flight, touch)]
        keys += [(off + flight + 0.18, land), (off + flight + 0.8, {})]
        motion.jump(off, flight)
        time = off + flight + 0.8 + motion.rng.uniform(0.1, 0.6)
    keys.append((time + 1, {}))
    motion.heading = motion.heading + motion.noise(20)
    return _add(_stand(motion), motion.follow(keys))


def _wide(motion: _Motion) -> Pose:
    """Poses drawn independently within the joint ranges, held and blended: far wider than any action."""
    names = [name for name in ANGLES if name != "pelvis_turn"]
    low, high = np.array([_limit(name) for name in names]).T
    keys, time = [], 0.0
    while time < motion.t[-1] + 1:
        share = motion.rng.beta(0.9, 1.1, len(names))
        pose = dict(zip(names, low + share * (high - low), strict=True))
        hold, blend = motion.rng.uniform(0.0, 0.4), motion.rng.uniform(0.4, 1.1)
        keys += [(time, pose), (time + hold + 1e-3, pose)]
        time += hold + blend
    motion.heading = motion.heading + motion.noise(90)
    return motion.follow(keys)


ACTIONS: MappingProxyType[str, Callable[[_Motion], Pose]] = MappingProxyType(
    {
        "walking": _walking,
        "jogging": _jogging,
        "boxing": _boxing,
        "sitting_down": _sitting_down,
        "reaching": _reaching,
        "waving": _waving,
        "phoning": _phoning,
        "kicking": _kicking,
        "jumping": _jumping,
        "turning": _turning,
        "wide": _wide,
    }
)
"""The actions; ``wide`` is for images and is left out when a request names no actions."""


def _limit(name: str) -> tuple[float, float]:
    return JOINT_LIMITS[name if name in JOINT_LIMITS else name[2:]]


def clamp(pose: Pose) -> Pose:
    """Limit every angle to :data:`JOINT_LIMITS`."""
    return {name: np.clip(value, *_limit(name)) for name, value in pose.items()}


def _hip_angles(pose: Pose) -> Pose:
    """Turn ``thigh`` and ``splay``, which actions give against the vertical, into hip angles against the pelvis."""
    pose = dict(pose)
    for side, away in (("r", 1), ("l", -1)):
        for thigh, hip, tilt in (
            ("thigh", "hip_flexion", pose.get("pelvis_tilt", 0.0)),
            ("splay", "hip_abduction", away * pose.get("pelvis_list", 0.0)),
        ):
            if f"{side}_{thigh}" in pose:
                pose[f"{side}_{hip}"] = pose.get(f"{side}_{hip}", 0.0) + pose.pop(f"{side}_{thigh}") + tilt
    return pose


def _rig_offsets(body: Body) -> np.ndarray:
    lengths = dict(zip(JOINTS[1:], body.bone_lengths, strict=True))
    offsets = np.zeros((len(_RIG), 3))
    for row, (node, _, direction) in enumerate(_RIG):
        if direction is not None:
            offsets[row] = lengths[node] * np.array(direction) / np.linalg.norm(direction)
    return offsets


def pose_body(pose: Pose, heading: np.ndarray, body: Body) -> np.ndarray:
    """Joints (F, 17, 3), m, of a pose (degrees) with heading (F,), degrees, about the pelvis at the origin."""
    angles = np.zeros((len(heading), len(_RIG), 3))
    for name, value in pose.items():
        node, axis, sign = ANGLES[name]
        angles[:, _NODES.index(node), axis] = sign * np.asarray(value)
    rotations = Rotation.from_euler("YXZ", angles.reshape(-1, 3), degrees=True)
    quaternions = rotations.as_quat().reshape(*angles.shape[:2], 4)
    turn = Rotation.from_euler("Z", heading[:, None], degrees=True)
    quaternions[:, 0] = (turn * Rotation.from_quat(quaternions[:, 0])).as_quat()
    root = np.zeros((len(heading), 3))
    positions, _ = forward_kinematics(_RIG_PARENTS, _rig_offsets(body), quaternions, root)
    return positions[:, _NODE_OF_JOINT]


def _plant(joints: np.ndarray, body: Body, airborne: np.ndarray, lift: np.ndarray, fps: float) -> np.ndarray:
    """Move a body (F, 17, 3) over the floor so that what supports it stays on the floor and in its place.

    The joints nearest the floor carry the weight (softly, so it passes smoothly from foot to foot) and the pelvis moves
    against them; in flight its horizontal speed goes on, and ``lift`` (F,) is added to its height.
    """
    clearance = np.full(NUM_JOINTS, _JOINT_RADIUS)
    clearance[[JOINTS.index("r_ankle"), JOINTS.index("l_ankle")]] = body.dimensions["ankle_height"]
    height = joints[..., 2] - clearance
    lowest = height.min(axis=1, keepdims=True)
    weight = np.exp(-(height - lowest) / _SUPPORT_SOFTNESS)
    weight /= weight.sum(axis=1, keepdims=True)
    support = lowest[:, 0]
    velocity = -(0.5 * (weight[1:] + weight[:-1])[..., None] * np.diff(joints[..., :2], axis=0)).sum(axis=1)
    frames, ground = np.arange(len(joints)), np.flatnonzero(~airborne)
    if 0 < len(ground) < len(frames):
        support = np.interp(frames, ground, support[ground])
        steady = np.flatnonzero(~(airborne[1:] | airborne[:-1]))
        velocity = np.stack([np.interp(frames[1:] - 1, steady, velocity[steady, axis]) for axis in (0, 1)], axis=1)
    width = 0.03 * fps
    root = np.zeros((len(joints), 3))
    root[1:, :2] = gaussian_filter1d(np.cumsum(velocity, axis=0), width, axis=0, mode="nearest")
    root[:, 2] = gaussian_filter1d(-support, width, mode="nearest") + lift
    root[:, :2] -= (root[:, :2].min(axis=0) + root[:, :2].max(axis=0)) / 2
    return joints + root[:, None]


def _style(subject: str, population: int) -> dict[str, float]:
    """A subject's habits: factors on stride, cadence and arm swing; degrees of lean and of arms held out."""
    rng = generator("style", population, subject)
    return {
        "stride": rng.uniform(0.85, 1.12),
        "cadence": rng.uniform(0.93, 1.08),
        "swing": rng.uniform(0.6, 1.4),
        "lean": rng.uniform(-2, 5),
        "arms": rng.uniform(-3, 8),
        "right_handed": 0.85 if rng.random() < 0.9 else 0.15,
    }


def generate(
    subject: str, action: str, speed: float, seconds: float, fps: float, seed: int, population: int = 0
) -> np.ndarray:
    """Joints (F, 17, 3), m, world frame, of ``seconds * fps`` frames of an action.

    subject: any name; its body and habits follow from it and ``population``; action: a key of :data:`ACTIONS`; speed:
    playback speed, 2.0 shows twice the motion in the same time; seed: of this clip's variation.
    """
    if action not in ACTIONS:
        raise UserError(f"synthetic: has no action '{action}'; expected one of {', '.join(ACTIONS)}")
    body = sample_body(subject, population)
    t = np.arange(round(seconds * fps)) * (speed / fps)
    motion = _Motion(t, generator("synthetic", seed), _style(subject, population))
    pose = clamp(_hip_angles(ACTIONS[action](motion)))
    joints = pose_body(pose, motion.heading, body)
    return _plant(joints, body, motion.airborne, motion.lift, fps)


def read_clips(request: Request) -> Iterator[Clip]:
    """Clips of every subject, action, number and speed of a request, named ``S1_walking_0@2.0``."""
    if request.subjects is None or request.clips_per_action is None or request.seconds is None:
        raise UserError("synthetic: needs 'subjects', 'clips_per_action' and 'seconds'; give them in --params")
    actions = request.actions if request.actions is not None else [name for name in ACTIONS if name != "wide"]
    check_known(actions, list(ACTIONS), "action", "synthetic")
    for subject in request.subjects:
        body = sample_body(subject)
        for action in actions:
            for number in range(request.clips_per_action):
                seed = derive_seed(request.seed, subject, action, number)
                for speed in request.speeds:
                    joints = generate(subject, action, speed, request.seconds, request.fps, seed)
                    joints = joints[middle(len(joints), request.fps, request.max_seconds)]
                    yield Clip(
                        id=clip_id(f"{subject}_{action}_{number}", speed),
                        joints3d=joints.astype(np.float32),
                        joint_valid=np.ones(NUM_JOINTS, bool),
                        subject=subject,
                        action=action,
                        fps=float(request.fps),
                        source="synthetic",
                        attributes={"speed": float(speed)} | body.attributes(),
                    )
