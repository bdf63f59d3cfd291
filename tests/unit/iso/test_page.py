import re
from pathlib import Path

import numpy as np

PAGE = Path(__file__).parents[3] / "docs/iso.md"


def test_the_pages_examples_run_and_come_nearer_to_the_truth(capsys):
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, names)
    result, truth = names["result"], names["truth"]
    before, after = (1000 * np.linalg.norm(pose - truth, axis=-1).mean() for pose in (names["lifted"], result.pose))
    assert after < 0.75 * before
    assert f"MPJPE {before:.1f} mm, then {after:.1f} mm" in capsys.readouterr().out
    assert (result.iterations < 150).all()
    assert names["shifted"].trace["total"][-1] < names["shifted"].trace["total"][0]
