"""A track's dvc.yaml as text, from its jobs: one stage a job.

Paths are relative to the repository, which every stage's ``wdir`` names where the file itself lies deeper.
"""

import re
import shlex
import subprocess
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from isopose import config
from isopose.bridge.graph import Job, parameter_files
from isopose.bridge.ledger import entry_of
from isopose.bridge.names import at, keys_of
from isopose.errors import UserError

# ---- What ships -----------------------------------------------------------------------------------------------------
# Everything a job makes ships, but for the stores (.h5): bulky, they are made again from what ships. Those that do
# ship, because others build on them, are of the named roles; every rule that writes a store is here.
STORES = {
    "preprocess": (),
    "occlusion_labels": (),
    "render_images": (),
    "detect": ("test",),
    "lift": (),
    "lift_mean_pose": (),
    "refine": ("test",),
}
# The demo's remote lies in git, in published/, and has room for 15 MB; this stays out of it as well: of lifters all but
# `full`, from which the demo's ISO starts.
EMBEDDED = "embedded"
_TOO_MUCH = re.compile(
    r"results/demo/\w+/(lifters/(?!full/).*\.safetensors|poses/test/iso/(?!selected\.).*)|reports/demo/.*\.png"
)
# Files that speak of this machine: DVC notes their checksums and never keeps or sends them. The marker says that
# MLflow's database is there, which a copy of the marker would not make true.
MACHINE_BOUND = ("mlflow_database",)

# ---- What DVC shows -------------------------------------------------------------------------------------------------
# Rules whose JSON is a metric; ends of the names of files that are plots, and how they are drawn.
METRICS = ("detect", "calibrate", "select_weighting", "evaluate")
PLOTS = {"/trace.csv": {"x": "iteration", "y": "mpjpe"}, ".svg": {}}

_KINDS = ("outs", "metrics", "plots")
_HEAD = "# Generated from Snakemake's job graph by `python -m isopose.bridge generate`; see docs/two_engines.md.\n"


def path_of(track: str) -> Path:
    """Where a track's file lies: the demo's at the top, another's beside its parameters."""
    return Path("dvc.yaml") if track == "demo" else Path("experiments", track, "dvc.yaml")


def lock_of(track: str) -> Path:
    """Where DVC keeps what a track's stages were last made from and made."""
    return path_of(track).with_suffix(".lock")


def shipped(track: str) -> list[str]:
    """Outputs of a track that DVC sends and fetches, sorted. Errors: UserError where the track has no dvc.yaml."""
    flags = {path: flag for stage in _stages(track) for path, flag in _made_by(stage).items()}
    return sorted(path for path, flag in flags.items() if flag.get("cache", True) and flag.get("push", True))


def _stages(track: str) -> Collection[dict[str, Any]]:
    return read(path_of(track))["stages"].values()


def read(path: Path) -> dict[str, Any]:
    """A dvc.yaml or its lock. Errors: UserError where it is not there or cannot be read."""
    maker = f"python -m isopose.bridge {'publish' if path.suffix == '.lock' else 'generate'}"
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
        if isinstance(content["stages"], Mapping):
            return content
    except FileNotFoundError as error:
        raise UserError(f"{path}: is not there; expected what `{maker}` writes") from error
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError):
        pass
    raise UserError(f"{path}: cannot be read; expected what `{maker}` writes; take it from git again")


def _made_by(stage: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The outputs of a stage and their flags."""
    entries = [entry for kind in _KINDS for entry in stage.get(kind, [])]
    return {path: flags for entry in entries for path, flags in _with_flags(entry).items()}


def _with_flags(entry: str | dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {entry: {}} if isinstance(entry, str) else entry


def generated(track: str, jobs: Iterable[Job]) -> str:
    """The text of a track's dvc.yaml as the repository is now. Errors: UserError, as :func:`text`."""
    jobs = list(jobs)
    parameters = {path.as_posix(): config.load(path) for path in parameter_files(track)}
    return text(track, jobs, parameters, outputs_in_git(path for job in jobs for path in job.outputs))


def text(track: str, jobs: Iterable[Job], parameters: Mapping[str, Mapping[str, Any]], in_git: Collection[str]) -> str:
    """The text of a track's dvc.yaml, its stages in the order of the jobs.

    parameters: the content of each parameter file by path, each laid over the one before. in_git: outputs that git
    keeps and DVC therefore only watches. Errors: UserError where two jobs come to one name.
    """
    stages: dict[str, Any] = {}
    outputs: dict[str, str] = {}
    for job in jobs:
        if not job.outputs:
            continue
        name = stage_name(job)
        if name in stages:
            raise UserError(
                f"{path_of(track)}: {outputs[name]} and {job.outputs[0]} both come to the stage '{name}'; expected"
                " names in params.yaml that differ in letters or digits"
            )
        outputs[name] = job.outputs[0]
        stages[name] = _stage(track, job, parameters, in_git)
    return _HEAD + yaml.dump({"stages": stages}, None, yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=120)


def stage_name(job: Job) -> str:
    """A job's rule and wildcards with hyphens, as ``refine-synthetic-test-hard_0_9``: DVC allows few signs.

    A wildcard that is a number follows its own name, as in ``seed1``.
    """
    values = [f"{key}{value}" if value.isdigit() else value for key, value in job.wildcards.items()]
    return re.sub(r"[^\w-]", "_", "-".join([job.rule, *values]).replace("/", "-"), flags=re.ASCII)


def outputs_in_git(paths: Iterable[str], root: Path = Path(".")) -> set[str]:
    """Of the paths, those that .gitignore leaves to git, whether or not they are there or committed yet.

    Errors: UserError where the folder is no git repository.
    """
    paths = list(paths)
    # The rules of the repository alone: neither the index, nor the ignore file of whoever calls.
    command = ["git", "-c", "core.excludesFile=/dev/null", "check-ignore", "--no-index", "--stdin", "-z"]
    done = subprocess.run(command, cwd=root, input="\0".join(paths), capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise UserError(f"{root.absolute()}: git cannot say what it ignores ({done.stderr.strip()}); expected a clone")
    return set(paths) - set(done.stdout.split("\0"))


def _stage(
    track: str, job: Job, parameters: Mapping[str, Mapping[str, Any]], in_git: Collection[str]
) -> dict[str, Any]:
    up = len(path_of(track).parent.parts)
    stage: dict[str, Any] = {"cmd": _command(track, job)}
    stage |= {"wdir": "/".join([".."] * up)} if up else {}
    stage |= {"deps": sorted(job.inputs)}
    stage |= {"params": _parameters(job.parameters, parameters)}
    for path in job.outputs:
        kind, flags = _output(track, job, path, path in in_git)
        stage.setdefault(kind, []).append({path: flags} if flags else path)
    # The run cache brings these back with the outputs, so that Snakemake learns what those were made from.
    stage.setdefault("outs", []).extend({entry_of(track, path): {"cache": False}} for path in job.outputs)
    return {key: value for key, value in stage.items() if value}


def _command(track: str, job: Job) -> str:
    return shlex.join(["python", "-m", "isopose.bridge", "run", "--enter", "--track", track, *job.outputs])


def _parameters(names: Iterable[str], files: Mapping[str, Mapping[str, Any]]) -> list[dict[str, list[str]]]:
    """Names by the file that their values come from."""
    found: dict[str, list[str]] = {path: [] for path in files}
    for name in names:
        for path, keys in _sources(name, files):
            # DVC cuts names at every dot, and takes a question mark for any one sign.
            found[path].append(".".join(key.replace(".", "?") for key in keys))
    return [{path: here} for path, here in found.items() if here]


def _sources(name: str, files: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, tuple[str, ...]]]:
    """The files that a value comes from and its keys there: the last that has it, and of sections, which are laid
    over each other, every one.
    """
    found: list[tuple[str, tuple[str, ...]]] = []
    for path, values in files.items():
        keys = keys_of(values, name)
        if keys:
            all_found = [*found, (path, keys)]
            sections = all(isinstance(at(files[file], inside), Mapping) for file, inside in all_found)
            found = all_found if sections else [(path, keys)]
    return found


def _output(track: str, job: Job, path: str, in_git: bool) -> tuple[str, dict[str, Any]]:
    """The list of a stage that an output belongs in, and its flags there."""
    kind, flags = "outs", {}
    if job.rule in METRICS and path.endswith(".json"):
        kind = "metrics"
    for end, drawn in PLOTS.items():
        if path.endswith(end):
            kind, flags = "plots", dict(drawn)
    if in_git or job.rule in MACHINE_BOUND:
        flags["cache"] = False
    elif not _ships(job, path):
        flags["push"] = False
    elif track == "demo":
        flags["remote"] = EMBEDDED
    return kind, flags


def _ships(job: Job, path: str) -> bool:
    if _TOO_MUCH.fullmatch(path):
        return False
    if not path.endswith(".h5"):
        return True
    if job.rule not in STORES:
        raise UserError(f"{path}: the rule '{job.rule}' writes a store; expected it in bridge.dvc_file.STORES")
    return job.wildcards.get("role") in STORES[job.rule]
