"""Snakemake's job graph as plain data: the only module that imports Snakemake.

It calls Snakemake's API down to its private methods, which promise nothing between versions: hence ``TESTED``.
"""

import difflib
import functools
import os
from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from tokenize import TokenError
from traceback import extract_tb

import isopose
from isopose import config as parameters
from isopose.errors import UserError

# Snakemake's versions with which tests/roundtrip passes; pyproject.toml pins the same.
TESTED = ("9.27.1",)
_PROFILE = Path("profiles/default/config.yaml")
# Folders as text, with a slash at the end: pathlib is slow on as many paths as a track has.
_PACKAGE = os.path.join(os.path.dirname(isopose.__file__), "")
_IN_REPOSITORY = "src/isopose/"


@dataclass(frozen=True)
class Job:
    """One job of a track; paths are relative to the repository.

    parameters: names of the parameters it is given, see :mod:`isopose.bridge.names`, sorted.
    reason: why it would run now, in Snakemake's words; empty where ``needs_run`` is false.
    follows: whether it would run only because another job would, as far as Snakemake looked.
    params, code, software_stack_hash: what Snakemake would record of it now.
    """

    rule: str
    wildcards: dict[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: tuple[str, ...]
    log: tuple[str, ...]
    benchmark: str | None
    threads: int
    needs_run: bool
    reason: str
    follows: bool
    params: tuple[str, ...]
    code: str | None
    software_stack_hash: str


def parameter_files(track: str) -> list[Path]:
    """Files that hold a track's parameters, each laid over the one before: params.yaml, then the track's overlay."""
    files = [Path("params.yaml")]
    return files if track == "demo" else [*files, Path("experiments", track, "params.yaml")]


def jobs(track: str, root: Path = Path("."), target: str | None = None) -> list[Job]:
    """Every job of a track, rule by rule in the Snakefile's order, then by output; the one without outputs is last.

    root: the repository, whose files alone are looked at; results need not exist. target: an output or a rule, whose
    jobs and what they need are then all. Nothing is printed or written, but for Snakemake's own folder.
    Errors: UserError, also for what the Snakefile refuses.
    """
    _check_version()
    from snakemake.api import SnakemakeApi
    from snakemake.exceptions import MissingRuleException, RuleException, WorkflowError
    from snakemake.settings.enums import Quietness, RerunTrigger
    from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, ResourceSettings

    root = root.absolute()
    check_track(track, root)
    files = [root / path for path in parameter_files(track)]
    parameters.load(*files)  # Snakemake does not say which file it cannot read
    overlays = files[1:]
    try:
        with SnakemakeApi(OutputSettings(quiet={Quietness.ALL}, enable_file_logging=False)) as api:
            opened = api.workflow(
                resource_settings=ResourceSettings(cores=1),
                config_settings=ConfigSettings(configfiles=overlays),
                snakefile=root / "Snakefile",
                workdir=root,
            )
            opened.dag(
                DAGSettings(
                    targets={target} if target else set(),
                    force_incomplete=True,  # as the profile has it
                    rerun_triggers=RerunTrigger.all(),
                    max_checksum_file_size=_max_checksum_file_size(root),
                )
            )
            workflow = opened._workflow
            workflow._prepare_dag(forceall=False, ignore_incomplete=False, lock_warn_only=True, nolock=True)
            workflow._build_dag()
            order = {rule.name: number for number, rule in enumerate(workflow.rules)}
            found = [_job(workflow, job) for job in workflow.dag.jobs]
    except MissingRuleException as error:
        raise UserError(_unknown_target(track, target, root) if target else _one_line(error)) from error
    except (WorkflowError, RuleException) as error:
        raise UserError(_one_line(error)) from error
    except (UserError, OSError):
        raise
    except Exception as error:
        where = _broken_file(error, root)
        if where is None:
            raise
        raise UserError(
            f"{where}: cannot be read ({type(error).__name__}: {_one_line(error)}); expected rules as git has them;"
            " `git status` says which changed"
        ) from error
    return sorted(found, key=lambda job: (not job.outputs, order[job.rule], job.outputs))


def jobs_of(track: str, targets: Iterable[str]) -> list[Job]:
    """The jobs of several targets, each once; without any, those of the track. Errors: as :func:`jobs`."""
    return list({job.outputs: job for name in list(targets) or [None] for job in jobs(track, target=name)}.values())


def check_track(track: str, root: Path = Path(".")) -> None:
    """Refuse a folder that is no repository, and a track that has no parameters. Errors: UserError."""
    if not (root / "Snakefile").exists():
        raise UserError(f"{root.absolute()}: has no Snakefile; expected the folder of the repository")
    if not all((root / path).exists() for path in parameter_files(track)):
        known = ", ".join(["demo", *sorted(path.parent.name for path in root.glob("experiments/*/params.yaml"))])
        raise UserError(f"--track: no track '{track}'; the tracks here are {known}")


def makers(jobs: Iterable[Job]) -> dict[str, Job]:
    """The job that makes each output."""
    return {output: job for job in jobs for output in job.outputs}


def in_order(jobs: Iterable[Job]) -> list[Job]:
    """The jobs, each after those that make its inputs."""
    by_outputs = {job.outputs: job for job in jobs}
    made_by = makers(by_outputs.values())
    upstream = {
        job.outputs: [made_by[path].outputs for path in job.inputs if path in made_by] for job in by_outputs.values()
    }
    return [by_outputs[outputs] for outputs in TopologicalSorter(upstream).static_order()]


def _unknown_target(track: str, target: str, root: Path) -> str:
    """What to say of a target that no rule makes."""
    found = jobs(track, root)
    near = difflib.get_close_matches(target, sorted({*makers(found), *(job.rule for job in found)}), n=1)
    hint = f"did you mean {near[0]}?" if near else "expected an output or a rule"
    return f"{target}: no rule of the track '{track}' makes it; {hint}"


def _broken_file(error: Exception, root: Path) -> str | None:
    """The rule file that raises an error, or the module that cannot be parsed; None where the error is not theirs."""
    if isinstance(error, SyntaxError | TokenError):  # before any of the file runs
        where = getattr(error, "filename", None) or "Snakefile, or a file of workflow/rules"
        return os.path.relpath(where) if os.path.isabs(where) else where
    rule_files = (str(root / "Snakefile"), str(root / "workflow/"))
    raising = [frame.filename for frame in extract_tb(error.__traceback__) if frame.filename.startswith(rule_files)]
    return os.path.relpath(raising[-1]) if raising else None


def _check_version() -> None:
    from snakemake.common import __version__

    if __version__ not in TESTED:
        raise UserError(
            f"snakemake: is {__version__}; its job graph is read through private parts of its API, tested with"
            f" {', '.join(TESTED)} alone; install that version, as requirements.lock does"
        )


def _max_checksum_file_size(root: Path) -> int:
    return parameters.load(root / _PROFILE)["max-checksum-file-size"]


def _job(workflow: object, job: object) -> Job:
    dag, records = workflow.dag, workflow.persistence
    needs_run = dag.needrun(job)
    return Job(
        rule=job.rule.name,
        wildcards=dict(job.wildcards_dict),
        inputs=tuple(dict.fromkeys(in_repository(path) for path in job.input)),
        outputs=tuple(map(str, job.output)),
        parameters=tuple(sorted({name for value in job.params for name in getattr(value, "names", ())})),
        log=tuple(map(str, job.log)),
        benchmark=str(job.benchmark) if job.benchmark else None,
        threads=job.threads,
        needs_run=needs_run,
        reason=_one_line(dag.reason(job)) if needs_run else "",
        follows=needs_run and _follows(dag, job),
        params=tuple(records._params(job)),
        code=records._code(job.rule),
        software_stack_hash=records._software_stack_hash(job),
    )


def _follows(dag: object, job: object) -> bool:
    reason = dag.reason(job)
    # The rule that names a track's goals has no outputs: what it misses is missed for its own sake.
    is_goal = any(not user.output for user in dag.depending[job])
    return reason.derived and not (is_goal and reason.missing_output)


def in_repository(path: str) -> str:
    """An input's path; that of a module as in the repository, from wherever the package is imported."""
    return _in_repository(str(path), os.getcwd())


@functools.cache  # the records of a large track name the same inputs a million times
def _in_repository(path: str, folder: str) -> str:
    full = os.path.normpath(os.path.join(folder, path))
    return _IN_REPOSITORY + full.removeprefix(_PACKAGE) if full.startswith(_PACKAGE) else path


def on_this_machine(path: str) -> str:
    """The inverse of :func:`in_repository`: where Snakemake finds an input from the repository's folder."""
    return os.path.relpath(_PACKAGE + path.removeprefix(_IN_REPOSITORY)) if path.startswith(_IN_REPOSITORY) else path


def _one_line(message: object) -> str:
    return " ".join(str(message).split())
