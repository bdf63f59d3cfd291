"""The instruction set that jobs compute with, so that the same seed gives the same bytes on old and new processors.

NumPy, OpenBLAS, oneDNN, MKL and torch each choose code by the processor that they find, and the last bits of a sum
depend on that code. An intermediate made again on a processor with AVX-512 would have other bytes than the published
one, and all that rests on it would run. So jobs use AVX2 where it is there, as on x86-64 since 2015 or so. Only in its
mode COMPATIBLE does MKL do the same on Intel's processors as on others.
"""

import os
from pathlib import Path

AVX2 = {
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Haswell",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",
    "ATEN_CPU_CAPABILITY": "avx2",
}
"""Environment variables by which the libraries use no instructions beyond AVX2; they read them as they load."""


def has_avx2(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor has AVX2 and FMA, which those libraries take with it, by what Linux says; elsewhere, no."""
    try:
        return {"avx2", "fma"} <= {*cpuinfo.read_text(encoding="utf-8").split()}
    except OSError:
        return False


def fix() -> None:
    """Set AVX2 for the processes that this one starts, but for variables that the user has set."""
    if has_avx2():
        for name, setting in AVX2.items():
            os.environ.setdefault(name, setting)
