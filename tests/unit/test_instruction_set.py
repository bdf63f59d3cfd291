import json
import os
import subprocess
import sys

import pytest

from isopose import instruction_set

LIBRARIES = """
import json, numpy, torch
from threadpoolctl import threadpool_info
features = numpy._core._multiarray_umath.__cpu_features__
print(json.dumps([
    sorted({lib["architecture"] for lib in threadpool_info() if lib["internal_api"] == "openblas"}),
    torch.backends.cpu.get_cpu_capability(),
    [name for name in ("X86_V4", "AVX512_ICL", "AVX512_SPR") if features.get(name)],
]))
"""


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("flags\t\t: fma avx2 bmi2\n", True),
        ("flags\t\t: avx f16c fma\n", False),
        ("flags\t\t: avx2\n", False),
        ("Features : asimd", False),
    ],
)
def test_avx2_is_found_where_the_processor_says_so(tmp_path, cpuinfo, expected):
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert instruction_set.has_avx2(tmp_path / "cpuinfo") == expected


def test_a_system_that_does_not_say_has_none(tmp_path):
    assert not instruction_set.has_avx2(tmp_path / "cpuinfo")


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setattr(instruction_set, "has_avx2", lambda: True)
    monkeypatch.setattr(os, "environ", {"ONEDNN_MAX_CPU_ISA": "ALL"})
    instruction_set.fix()
    assert os.environ == instruction_set.AVX2 | {"ONEDNN_MAX_CPU_ISA": "ALL"}


@pytest.mark.skipif(not instruction_set.has_avx2(), reason="the processor has no AVX2")
def test_the_libraries_obey():
    environment = os.environ | instruction_set.AVX2
    done = subprocess.run(
        [sys.executable, "-c", LIBRARIES], env=environment, check=True, capture_output=True, text=True
    )
    assert json.loads(done.stdout) == [["Haswell"], "AVX2", []]
