"""Writes files in MPII's layout, from its README: the struct RELEASE, with what the real file has of variety; and
HRNet's JSON of it. Pixels from 1.
"""

import json

import numpy as np
from scipy.io import savemat

JOINTS = 16


def struct(records, names, shape=None):
    """A MATLAB struct array of dictionaries; a field that a record lacks is empty, []."""
    array = np.zeros((1, len(records)) if shape is None else shape, [(name, object) for name in names])
    for index, record in enumerate(records):
        for name in names:
            array.ravel()[index][name] = record.get(name, np.zeros((0, 0)))
    return array


def person(rng, joints, marks):
    """What is known of a person: joints (16, 2) px from 0, by id, NaN where not labelled; marks: their is_visible."""
    head = rng.uniform(20, 60, 2)
    return {
        "centre": rng.uniform(100, 500, 2),
        "scale": rng.uniform(1, 4),
        "joints": joints,
        "marks": marks,
        "head": np.concatenate([head, head + rng.uniform(20, 50, 2)]),
    }


def people(images, seed=0):
    """Lists of people, one list an image."""
    rng = np.random.default_rng(seed)
    crowd = []
    for image in range(images):
        crowd.append([])
        for _ in range(image % 3):
            joints = rng.uniform(10, 600, (JOINTS, 2))
            joints[rng.random(JOINTS) < 0.2] = np.nan
            # numbers, digits as text, and nothing (the ends of the head)
            marks = [rng.choice([0, 1]) if joint % 2 else str(rng.choice([0, 1])) for joint in range(JOINTS)]
            marks[8] = marks[9] = None
            crowd[-1].append(person(rng, joints, marks))
    return crowd


def rectangle(known, labelled):
    """An annorect."""
    x, y = known["centre"] + 1
    record = {"scale": float(known["scale"]), "objpos": struct([{"x": round(x, 3), "y": round(y, 3)}], ("x", "y"))}
    if labelled:
        points = [
            {"x": place[0] + 1, "y": place[1] + 1, "id": np.uint8(joint)}
            | ({} if known["marks"][joint] is None else {"is_visible": known["marks"][joint]})
            for joint, place in enumerate(known["joints"])
            if not np.isnan(place[0])
        ]
        point = struct(points[::-1], ("x", "y", "id", "is_visible"))  # the ids are in no order
        record |= dict(zip(("x1", "y1", "x2", "y2"), known["head"] + 1, strict=True))
        record["annopoints"] = struct([{"point": point}], ("point",))
    return record


def release(crowd, test=(), unlabelled=(), without_place=()):
    """RELEASE; test: images whose joints are not published; unlabelled and without_place: (image, person) pairs."""
    annolist, train, single, act = [], [], [], []
    for image, group in enumerate(crowd):
        rectangles = []
        for number, known in enumerate(group):
            record = rectangle(known, image not in test and (image, number) not in unlabelled)
            if (image, number) in without_place:
                del record["objpos"]
            rectangles.append(record)
        fields = ("scale", "objpos") if image in test else ("x1", "y1", "x2", "y2", "annopoints", "scale", "objpos")
        annolist.append(
            {
                "image": struct([{"name": f"{image:09d}.jpg"}], ("name",)),
                "annorect": struct(rectangles, fields) if rectangles else np.zeros((0, 0)),
                "frame_sec": np.zeros((0, 0)),
                "vididx": np.zeros((0, 0)),
            }
        )
        train.append(0 if image in test else 1)
        single.append(np.arange(1, len(group) + 1, dtype=np.uint8)[:1, None] if group else np.zeros((0, 0)))
        act.append({"cat_name": "sports", "act_name": "curling", "act_id": 1})
    cells = np.empty((len(crowd), 1), object)
    cells[:, 0] = single
    return {
        "annolist": struct(annolist, ("image", "annorect", "frame_sec", "vididx")),
        "img_train": np.array([train], np.uint8),
        "version": "12",
        "single_person": cells,
        "act": struct(act, ("cat_name", "act_name", "act_id"), (len(crowd), 1)),
        "video_list": np.array([["video"]], object),
    }


def write(root, content, compressed=True):
    """Write the MATLAB file; return its path."""
    folder = root / "mpii_human_pose_v1_u12_2"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mpii_human_pose_v1_u12_1.mat"
    savemat(path, {"RELEASE": content}, do_compression=compressed)
    return path


def write_json(root, crowd, split="valid"):
    """Write HRNet's annot/<split>.json and, for valid, gt_valid.mat; return the JSON's path."""
    folder = root / "annot"
    folder.mkdir(parents=True, exist_ok=True)
    known = [(f"{image:09d}.jpg", each) for image, group in enumerate(crowd) for each in group]
    entries = []
    for name, each in known:
        labelled = ~np.isnan(each["joints"][:, 0])
        entry = {"image": name, "center": (each["centre"] + 1).tolist(), "scale": each["scale"]}
        if split != "test":
            entry["joints"] = np.where(labelled[:, None], each["joints"] + 1, -1.0).tolist()
            entry["joints_vis"] = labelled.astype(int).tolist()
        entries.append(entry)
    (folder / f"{split}.json").write_text(json.dumps(entries))
    if split == "valid":
        heads = np.stack([each["head"] + 1 for _, each in known])  # x1, y1, x2, y2
        savemat(
            folder / "gt_valid.mat",
            {
                "headboxes_src": np.stack([heads[:, :2].T, heads[:, 2:].T]),
                "jnt_missing": np.stack([np.isnan(each["joints"][:, 0]) for _, each in known], 1).astype(np.uint8),
                "pos_gt_src": np.nan_to_num(np.stack([each["joints"] + 1 for _, each in known], 2)),
                "dataset_joints": np.array([["rank", "rkne"]], object),
            },
        )
    return folder / f"{split}.json"
