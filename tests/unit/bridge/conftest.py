import hashlib
import subprocess
from pathlib import Path

import pytest
import yaml

from isopose.bridge import dvc_file, dvc_repo, ledger, records
from isopose.bridge.graph import Job
from isopose.bridge.records import Record


class Track:
    """A repository with the jobs of a track that is called t: two, the second of which reads what the first makes."""

    def __init__(self):
        self.make("src.txt", "source")
        self.first = self.job("first", ["src.txt"], ["out/a.txt", "out/a.json"])
        self.last = self.job("last", ["out/a.txt"], ["out/b.csv"])
        self.jobs = [self.first, self.last]
        for job in self.jobs:
            for output in job.outputs:
                self.make(output, output)
        for job in self.jobs:
            for output in job.outputs:
                self.record(job, output)

    def job(self, rule, inputs, outputs):
        return Job(
            rule=rule,
            wildcards={"name": "x"},
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            parameters=("iso.smoothness", "seed"),
            log=("out/log",),
            benchmark=None,
            threads=1,
            needs_run=False,
            reason="",
            follows=False,
            params=("""'{"seed": 1, "smoothness": 0.1}'""",),
            code="cp {input} {output}",
            software_stack_hash="d41d8",
        )

    @staticmethod
    def sha256(text):
        return hashlib.sha256(text.encode()).hexdigest()

    def make(self, path, text):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)

    def recorded(self, job, **changes):
        content = {
            "rule": job.rule,
            "inputs": {path: self.sha256(Path(path).read_text()) for path in job.inputs},
            "params": list(job.params),
            "code": job.code,
            "log": list(job.log),
            "software_stack_hash": job.software_stack_hash,
            "record_format_version": 6,
        }
        return Record(**content | changes)

    def start(self, output):
        self.make(f".snakemake/incomplete/{records.path_of(output).name}", "{}")

    def record(self, job, output, **changes):
        records.write(output, self.recorded(job, **changes), Path(output).stat().st_mtime)

    def publish(self, jobs):
        """The ledger, dvc.yaml and DVC's lock of jobs as they are now."""
        ledger.write("t", ledger.current("t", jobs))
        self.make("params.yaml", "iso: {smoothness: 0.1, hard_0.9: 2}")
        self.make("experiments/t/params.yaml", "seed: 1")
        subprocess.run(["git", "init", "--quiet"], check=True)
        self.make("experiments/t/dvc.yaml", dvc_file.generated("t", jobs))
        stages = yaml.safe_load(Path("experiments/t/dvc.yaml").read_text())["stages"]
        for stage in stages.values():
            del stage["wdir"]
            stage["deps"] = [self.locked(path) for path in stage["deps"]]
            paths = [path for entry in stage["outs"] for path in ([entry] if isinstance(entry, str) else entry)]
            stage["outs"] = [self.locked(path) for path in paths if Path(path).exists()]
            stage["params"] = {"params.yaml": {"iso.smoothness": 0.1}, "experiments/t/params.yaml": {"seed": 1}}
        self.make("experiments/t/dvc.lock", yaml.safe_dump({"schema": "2.0", "stages": stages}))

    @staticmethod
    def locked(path):
        content = Path(path).read_bytes()
        return {"path": path, "hash": "md5", "md5": hashlib.md5(content).hexdigest(), "size": len(content)}


@pytest.fixture
def track(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Track()


@pytest.fixture
def published(track, tmp_path):
    """The published track, whose bytes DVC has sent to its remote, but for a.json, which git keeps."""
    track.make(".gitignore", "out/*\n!out/a.json\n")
    track.publish(track.jobs)
    track.make(".dvc/config", f"[core]\nremote = here\n['remote \"here\"']\nurl = {tmp_path}/remote\n")
    track.make(".dvc/.gitignore", "/tmp\n/cache\n")
    dvc_repo.commit("t")
    dvc_repo.push("t")
    subprocess.run(["git", "add", "out"], check=True)
    return track
