"""Body proportions drawn from an anthropometric distribution, and motion carried over to such a body.

Means and standard deviations (mm) are those of ANSUR II, both sexes together (n = 6,068; Gordon et al. 2014, *2012
Anthropometric Survey of U.S. Army Personnel*, NATICK/TR-15/007). Segments are differences of heights; joint centres
lie inside the surface landmarks, by the factors noted at :data:`DIMENSIONS` (shoulder: de Leva 1996, *Joint center
longitudinal positions*). Each dimension correlates with stature and is otherwise independent of the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from isopose.datasets.sources import generator
from isopose.skeleton import BONES, JOINTS, index

MAX_DEVIATIONS = 2.0
"""Draws are limited to this many standard deviations, which keeps 95 % of people."""


class Dimension(NamedTuple):
    """Mean and standard deviation in m, and correlation with stature (rounded)."""

    mean: float
    deviation: float
    correlation: float


DIMENSIONS = MappingProxyType(
    {
        # femoral head to the body's midline, from X-rays (95 mm in men, 92 mm in women)
        "hip": Dimension(0.093, 0.007, 0.4),
        # trochanterion height less lateral femoral epicondyle height: 882.7 - 483.2
        "thigh": Dimension(0.400, 0.030, 0.85),
        # lateral femoral epicondyle height less lateral malleolus height: 483.2 - 69.6
        "shin": Dimension(0.414, 0.027, 0.85),
        # lateral malleolus height
        "ankle_height": Dimension(0.070, 0.007, 0.4),
        # acromial height 1406.2 less 35 (acromion to joint centre) less trochanterion height
        "torso": Dimension(0.488, 0.030, 0.7),
        # biacromial breadth 399.2, halved, times 0.8 (joint centres lie inside the acromia)
        "shoulder": Dimension(0.160, 0.012, 0.6),
        # acromion-radiale length 327.4 times 0.9 (from the joint centre)
        "upper_arm": Dimension(0.295, 0.019, 0.8),
        # radiale-stylion length
        "forearm": Dimension(0.259, 0.020, 0.8),
        # stature 1714.4 less shoulder centre height 1371 less tragion to top of head
        "neck": Dimension(0.213, 0.012, 0.4),
        # tragion to top of head
        "head": Dimension(0.130, 0.007, 0.4),
    }
)

SPINE_SHARE = 0.476
"""Where Human3.6M's spine joint divides pelvis to thorax (233 of 490 mm in its skeleton)."""

_DIMENSION_OF_JOINT = {
    "hip": "hip",
    "knee": "thigh",
    "ankle": "shin",
    "neck": "neck",
    "head": "head",
    "shoulder": "shoulder",
    "elbow": "upper_arm",
    "wrist": "forearm",
}


@dataclass(frozen=True)
class Body:
    """A person's proportions: the dimensions of :data:`DIMENSIONS`, m."""

    dimensions: Mapping[str, float]

    @property
    def stature(self) -> float:
        """Height of the standing body, m."""
        return sum(self.dimensions[name] for name in ("ankle_height", "shin", "thigh", "torso", "neck", "head"))

    @property
    def bone_lengths(self) -> np.ndarray:
        """Lengths (16,) of ``skeleton.BONES``, m."""
        return np.array([self._length(JOINTS[child]) for _, child in BONES])

    def _length(self, joint: str) -> float:
        if joint in ("spine", "thorax"):
            share = SPINE_SHARE if joint == "spine" else 1 - SPINE_SHARE
            return self.dimensions["torso"] * share
        return self.dimensions[_DIMENSION_OF_JOINT[joint.removeprefix("l_").removeprefix("r_")]]

    def attributes(self) -> dict[str, float]:
        """What a clip records of the body it shows, m."""
        return {"body_stature": self.stature} | {f"body_{name}": value for name, value in self.dimensions.items()}


def sample_body(subject: str, seed: int = 0) -> Body:
    """Draw a subject's body; the same subject and seed give the same body everywhere.

    Dimension d is ``mean + deviation * (r z + sqrt(1 - r^2) e)``: one z for the subject's stature, an e of its own.
    """
    rng = generator("body", seed, subject)
    z, *own = np.clip(rng.standard_normal(1 + len(DIMENSIONS)), -MAX_DEVIATIONS, MAX_DEVIATIONS)
    return Body(
        {
            name: float(d.mean + d.deviation * (d.correlation * z + np.sqrt(1 - d.correlation**2) * e))
            for (name, d), e in zip(DIMENSIONS.items(), own, strict=True)
        }
    )


def reshape(joints: np.ndarray, body: Body) -> np.ndarray:
    """Give motion (F, 17, 3), m, world, another body: bones keep their directions and take the body's lengths.

    The pelvis' path is scaled by the ratio of leg lengths, so that steps still fit the legs, and the whole is moved
    vertically so that the lowest ankle (5th percentile over the frames) is at the height of the body's ankle.
    """
    lengths = body.bone_lengths
    knee, ankle = index("r_knee"), index("r_ankle")
    source_leg = sum(np.linalg.norm(joints[0, b] - joints[0, a]) for a, b in ((knee - 1, knee), (knee, ankle)))
    shaped = np.empty_like(joints)
    shaped[:, 0] = joints[:, 0] * (body.dimensions["thigh"] + body.dimensions["shin"]) / source_leg
    for (parent, child), length in zip(BONES, lengths, strict=True):
        bone = joints[:, child] - joints[:, parent]
        shaped[:, child] = shaped[:, parent] + bone * (length / np.linalg.norm(bone, axis=-1, keepdims=True))
    ankles = shaped[:, [index("r_ankle"), index("l_ankle")], 2].min(axis=1)
    shaped[..., 2] += body.dimensions["ankle_height"] - np.percentile(ankles, 5)
    return shaped
