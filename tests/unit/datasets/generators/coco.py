"""Writes files in COCO's layout, from cocodataset.org's "Data format" and "Results format"."""

import json

import numpy as np

SIDED = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
NAMES = ["nose", *(f"{side}_{joint}" for joint in SIDED for side in ("left", "right"))]

CATEGORY = {
    "supercategory": "person",
    "id": 1,
    "name": "person",
    "keypoints": NAMES,
    "skeleton": [[16, 14], [14, 12]],
}


def annotations(images=3, people=5, seed=0):
    """The file's content: x and y whole pixels from 0, v 0 (then x = y = 0), 1 or 2; boxes x, y, width, height."""
    rng = np.random.default_rng(seed)
    pictures = [
        {"license": 1, "file_name": f"{i:012d}.jpg", "height": 427, "width": 640, "id": i}
        for i in rng.choice(500_000, images, replace=False).tolist()
    ]
    listed = []
    for number in range(people):
        keypoints = np.concatenate([rng.integers(1, 400, (17, 2)), rng.integers(0, 3, (17, 1))], axis=1)
        keypoints[keypoints[:, 2] == 0] = 0
        if number == people - 1:
            keypoints[:] = 0
        crowd = int(number == 1)
        outline = {"counts": [1, 2, 3], "size": [427, 640]} if crowd else [rng.uniform(0, 400, 12).round(2).tolist()]
        listed.append(
            {
                "segmentation": outline,
                "num_keypoints": int((keypoints[:, 2] > 0).sum()),
                "area": 1000.5,
                "iscrowd": crowd,
                "keypoints": keypoints.ravel().tolist(),
                "image_id": pictures[number % images]["id"],
                "bbox": rng.uniform(1, 200, 4).round(2).tolist(),
                "category_id": 1,
                "id": 183126 + number,
            }
        )
    return {
        "info": {"description": "COCO 2017 Dataset", "year": 2017},
        "licenses": [{"id": 1, "name": "Attribution"}],
        "images": pictures,
        "annotations": listed,
        "categories": [CATEGORY],
    }


def write(root, content, split="val"):
    """Write the annotations; return the path."""
    path = root / f"annotations/person_keypoints_{split}2017.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def results(people=4, seed=0):
    """Detections: the third number of a keypoint is the detector's confidence in it."""
    rng = np.random.default_rng(seed)
    keypoints = np.concatenate([rng.uniform(0, 400, (people, 17, 2)), rng.uniform(0, 1, (people, 17, 1))], axis=2)
    return [
        {"image_id": 10 + i // 2, "category_id": 1, "keypoints": keypoints[i].ravel().tolist(), "score": 0.1 * i}
        for i in range(people)
    ]
