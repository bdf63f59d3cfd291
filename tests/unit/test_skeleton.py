import subprocess
import sys

from isopose import skeleton


def test_seventeen_joints_form_a_tree_rooted_at_the_pelvis():
    assert len(skeleton.JOINTS) == 17 and len(set(skeleton.JOINTS)) == 17
    assert len(skeleton.BONES) == 16
    reached = {skeleton.index("pelvis")}
    for parent, child in skeleton.BONES:
        assert parent in reached
        reached.add(child)
    assert reached == set(range(17))


def test_mirror_exchanges_each_right_joint_with_its_left_namesake():
    for joint, other in enumerate(skeleton.MIRROR):
        name, mirrored = skeleton.JOINTS[joint], skeleton.JOINTS[other]
        swap = {"l": "r", "r": "l"}
        expected = f"{swap[name[0]]}{name[1:]}" if name[1] == "_" else name
        assert mirrored == expected


def test_skeleton_and_camera_do_not_import_torch():
    program = "import sys, isopose.skeleton, isopose.camera; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
