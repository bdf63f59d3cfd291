import pytest

from isopose import failures

SNAKEMAKE = """Execute 2 jobs...
[Tue Nov 24 15:22:51 2026]
Error in rule {rule}:
    message: None
    jobid: 0
    input: a.h5, b.py
    output: c.h5
    log: {log} (check log file(s) for error details)
    shell:
        python -m isopose.x > {log} 2>&1
Exiting because a job execution failed. Look above for error messages
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lift:  0%\rlift: 50%\rerror: a.bvh: is broken; fetch it\n", "a.bvh: is broken; fetch it"),
        (
            "Traceback (most recent call last):\n  x\nOSError: [Errno 28] No space left\n\n",
            "unexpected OSError: [Errno 28]",
        ),
        ("train:  3%\r", failures.SILENT),
        (None, failures.SILENT),
    ],
)
def test_a_failed_job_is_one_line_with_its_reason(tmp_path, text, expected):
    job, log = tmp_path / "job.log", tmp_path / "snakemake.log"
    if text is not None:
        job.write_text(text)
    log.write_text(2 * SNAKEMAKE.format(rule="lift", log=job))  # a job that was tried twice
    (line,) = failures.summary([log])
    assert line.startswith(f"error: lift failed: {expected}")
    assert line.endswith(f" (log: {job})")


def test_each_failed_job_has_its_line(tmp_path):
    log = tmp_path / "snakemake.log"
    log.write_text("".join(SNAKEMAKE.format(rule=rule, log=f"{tmp_path}/{rule}.log") for rule in ("lift", "refine")))
    assert [line.split()[1] for line in failures.summary([log])] == ["lift", "refine"]
    assert failures.summary([]) == []
