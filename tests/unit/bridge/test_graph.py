from hashlib import md5
from pathlib import Path

import pytest
from snakemake import common
from snakemake.persistence.file import FilePersistence

from isopose.bridge import graph
from isopose.errors import UserError

ROOT = Path(__file__).parents[3]


def test_the_pinned_version_is_the_tested_one():
    assert (graph.TESTED, common.__version__) == (("9.27.1",), "9.27.1")
    assert f'"snakemake=={graph.TESTED[-1]}"' in (ROOT / "pyproject.toml").read_text()


def test_another_version_of_snakemake_is_refused(monkeypatch):
    monkeypatch.setattr(common, "__version__", "9.28.0")
    with pytest.raises(UserError, match=r"^snakemake: is 9.28.0; .* tested with 9.27.1 alone") as caught:
        graph.jobs("demo", ROOT)
    assert "\n" not in str(caught.value)


def test_an_unknown_track_is_told_with_those_there_are():
    with pytest.raises(UserError, match=r"^--track: no track 'opne'; the tracks here are demo, open, paper, smoke$"):
        graph.jobs("opne", ROOT)


def test_another_folder_is_told(tmp_path):
    with pytest.raises(UserError, match="has no Snakefile"):
        graph.jobs("demo", tmp_path)


SNAKEFILE = """
configfile: "params.yaml"
from snakemake.exceptions import WorkflowError
if config["bad"]:
    raise WorkflowError("params: 'bad' is", ValueError("set\\n and long"))
class Named(str):
    names = ("b.c", "a")
rule all:
    input: "out/x.txt"
rule late:
    input: "out/{name}.in"
    output: "out/{name}.txt"
    log: "logs/{name}.log"
    benchmark: "logs/{name}.tsv"
    threads: 1
    params: plain="p", made=lambda w: Named(w.name)
    shell: "cp {input} {output}"
rule early:
    input: source="source.txt", code=CODE
    output: "out/{name}.in"
    shell: "cp {input.source} {output}"
"""


@pytest.fixture
def folder(tmp_path):
    code = [graph.__file__]
    (tmp_path / "Snakefile").write_text(SNAKEFILE.replace("CODE", repr(code)))
    (tmp_path / "params.yaml").write_text("bad: false\n")
    (tmp_path / "source.txt").write_text("")
    (tmp_path / "profiles/default").mkdir(parents=True)
    (tmp_path / "profiles/default/config.yaml").write_text("max-checksum-file-size: 1000\n")
    (tmp_path / "experiments/broken").mkdir(parents=True)
    (tmp_path / "experiments/broken/params.yaml").write_text("bad: true\n")
    return tmp_path


def test_jobs_are_told_whole_and_nothing_is_printed_or_left(folder, capfd, monkeypatch):
    monkeypatch.chdir("/")
    before = {path for path in folder.rglob("*")}
    late, early, last = graph.jobs("demo", folder)
    assert capfd.readouterr() == ("", "")
    assert Path.cwd() == Path("/")
    assert {path for path in folder.rglob("*") if ".snakemake" not in path.parts} == before
    assert (late.rule, late.wildcards) == ("late", {"name": "x"})
    assert (late.inputs, late.outputs) == (("out/x.in",), ("out/x.txt",))
    assert (late.log, late.benchmark, late.threads) == (("logs/x.log",), "logs/x.tsv", 1)
    assert late.parameters == ("a", "b.c")
    assert late.needs_run and "Missing output files: out/x.txt" in late.reason
    assert (last.rule, last.outputs) == ("all", ())
    # A module of the package lies in the repository, from wherever it is imported.
    assert early.inputs == ("source.txt", "src/isopose/bridge/graph.py")
    # What Snakemake records: the reprs of parameters in order, and the command before its placeholders are filled.
    assert (late.params, early.params) == (("'p'", "'x'"), ())
    assert (late.code, early.code) == ("cp {input} {output}", "cp {input.source} {output}")
    assert late.software_stack_hash == early.software_stack_hash == md5().hexdigest()
    # The track's goal is missing; what it is made from is needed by that alone.
    assert (late.follows, early.follows) == (False, True)


def test_an_output_whose_job_was_killed_is_made_again_as_with_the_profile(folder):
    (folder / "out").mkdir()
    for name in ("x.in", "x.txt"):
        (folder / "out" / name).write_text("")
    assert not any(job.needs_run for job in graph.jobs("demo", folder))
    FilePersistence(path=folder / ".snakemake")._mark_incomplete("out/x.in", None)
    late, early, _ = graph.jobs("demo", folder)
    assert (early.needs_run, early.follows, early.reason) == (True, False, "Forced execution")
    assert (late.needs_run, late.follows) == (True, True)


def test_a_targets_jobs_are_those_it_needs(folder):
    assert [job.rule for job in graph.jobs("demo", folder, "out/x.in")] == ["early"]
    assert [job.rule for job in graph.jobs("demo", folder, "all")] == ["late", "early", "all"]
    with pytest.raises(UserError, match="^out/x.im: no rule of the track 'demo' makes it; did you mean out/x.in[?]$"):
        graph.jobs("demo", folder, "out/x.im")
    with pytest.raises(UserError, match="^nothing: no rule .* makes it; expected an output or a rule$"):
        graph.jobs("demo", folder, "nothing")


def test_a_parameter_file_that_cannot_be_read_is_named_with_the_line(folder):
    overlay = folder / "experiments/broken/params.yaml"
    overlay.write_text("bad: true\nworse: [\n")
    with pytest.raises(UserError, match=f"^{overlay}: is not valid YAML .*line 3") as caught:
        graph.jobs("broken", folder)
    assert "\n" not in str(caught.value)


def test_a_profile_that_is_not_there_is_told(folder):
    (folder / "profiles/default/config.yaml").unlink()
    with pytest.raises(UserError, match="profiles/default/config.yaml: cannot be read"):
        graph.jobs("demo", folder)


def test_a_modules_place_on_this_machine_is_the_inverse_of_its_place_in_the_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = graph.on_this_machine("src/isopose/bridge/graph.py")
    assert Path(here).resolve() == Path(graph.__file__).resolve()
    assert graph.in_repository(here) == "src/isopose/bridge/graph.py"
    assert graph.on_this_machine("results/a.h5") == graph.in_repository("results/a.h5") == "results/a.h5"


def test_what_the_snakefile_refuses_is_one_line(folder):
    with pytest.raises(UserError, match="^params: 'bad' is") as caught:
        graph.jobs("broken", folder)
    assert "\n" not in str(caught.value) and "set and long" in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text[: text.rindex("source}")], "cannot be read"),  # cut short
        (lambda text: text + "\nrule (:\n", "cannot be read"),
        (lambda text: text + "\nx = (1, 2\n", "cannot be read"),
        (
            lambda text: "import isopose.nowhere\n" + text,
            "cannot be read \\(ModuleNotFoundError: No module named 'isopose.nowhere'",
        ),
        (lambda text: "wrong = None.name\n" + text, "cannot be read \\(AttributeError: "),
    ],
)
def test_a_broken_rule_file_is_one_line(folder, edit, message):
    (folder / "Snakefile").write_text(edit((folder / "Snakefile").read_text()))
    with pytest.raises(UserError, match=f"{message}") as caught:
        graph.jobs("demo", folder)
    assert "\n" not in str(caught.value) and "Snakefile" in str(caught.value)


def test_of_a_broken_included_file_that_file_is_named(folder):
    (folder / "workflow").mkdir()
    (folder / "workflow/part.smk").write_text("wrong = {}['a']\n")
    (folder / "Snakefile").write_text('include: "workflow/part.smk"\n' + (folder / "Snakefile").read_text())
    with pytest.raises(UserError, match=r"workflow/part\.smk: cannot be read \(KeyError: 'a'\)"):
        graph.jobs("demo", folder)


def test_an_error_that_is_not_of_the_rules_is_raised_as_it_is(folder, monkeypatch):
    monkeypatch.setattr(graph, "_job", lambda workflow, job: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        graph.jobs("demo", folder)


def test_every_track_has_its_parameter_files():
    assert graph.parameter_files("demo") == [Path("params.yaml")]
    assert graph.parameter_files("open") == [Path("params.yaml"), Path("experiments/open/params.yaml")]
