"""Made-up inputs of the reporting stages, shaped as the evaluation writes them. No number here was measured."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

ACTIONS = {"walk": 0.0, "jump": 12.0, "box": 5.0}


def scores(level: float, seed: int = 0) -> pd.DataFrame:
    """Grouped scores with an error of about ``level`` mm; sums over the frames of each line."""
    random = np.random.default_rng(seed)
    lines = []
    for subject in ("S07", "S13"):
        for action, extra in ACTIONS.items():
            for occluded in (False, True):
                for joints in (0, 2, 4, 8):
                    frames = int(random.integers(20, 60))
                    error = level + extra + (3 * joints if occluded else 0) + random.normal(0, 0.5)
                    lines.append(
                        {
                            "source": "synthetic",
                            "subject": subject,
                            "action": action,
                            "clip": f"{subject}_{action}",
                            "view": "cam1_occluded" if occluded else "cam1",
                            "speed": 1.0,
                            "occluded_view": occluded,
                            "occluded_joints": joints,
                            "occlusion_seconds": ("none", "< 0.2 s", "0.2-0.5 s", "> 1 s")[joints // 2 % 4]
                            if occluded
                            else "none",
                            "motion_speed": "< 0.5 m/s" if action == "walk" else "> 0.5 m/s",
                            "frames": frames,
                            "mpjpe": error * frames,
                            "p_mpjpe": 0.8 * error * frames,
                            "n_mpjpe": 0.95 * error * frames,
                        }
                    )
    return pd.DataFrame(lines)


def write_scores(path: Path, level: float, seed: int = 0) -> Path:
    """Write :func:`scores`."""
    scores(level, seed).to_csv(path, index=False)
    return path


def write_metrics(path: Path, level: float) -> Path:
    """Write the summary of a prediction set."""
    value = {"frames": level, "actions": level + 1, "interval": [level - 2, level + 2]}
    lower = {"frames": 0.8 * level, "actions": 0.8 * level + 1, "interval": [0.8 * level - 2, 0.8 * level + 2]}
    path.write_text(json.dumps({"mpjpe": value, "p_mpjpe": lower, "frames": 900, "clips": 6}), encoding="utf-8")
    return path
