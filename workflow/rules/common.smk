# What the rules share: the checked parameters, where things lie, and which data and runs belong to an evaluation.

import os
from glob import glob
from pathlib import Path

from snakemake.exceptions import WorkflowError

from isopose import config as parameters
from isopose import failures, instruction_set, references
from isopose.bridge import ledger
from isopose.bridge.names import Parameters, derived, laid_over, options, text
from isopose.datasets import raw_checksums
from isopose.datasets.availability import present_only, short_folders
from isopose.datasets.official import OFFICIAL, PHOTOGRAPHED, RAW_VARIABLE
from isopose.datasets.store import NEED_MAPS
from isopose.errors import UserError
from isopose.modules import PACKAGE, source_files
from isopose.stage import refusal

instruction_set.fix()
SCHEMA = workflow.source_path("../schemas/params.schema.yaml")
try:
    config = parameters.typed(config, SCHEMA)
    parameters.validate(config, SCHEMA)
    # Tables have their rows in the order of params.yaml, whatever an overlay changes of them.
    config = parameters.in_order(config, parameters.load(Path("params.yaml")))
    config = parameters.drop_nulls(config, ("sources", "evaluations", "variants"))
    references.check(config)
    # What absent datasets leave out stands on the page, with where to apply for them.
    RAW = Path(os.environ.get(RAW_VARIABLE) or "data/raw")
    config, ABSENCES = present_only(config, RAW)
    # The parts of each licensed dataset that sources read.
    PARTS = {
        name: {source.get("part", "") for source in config["sources"].values() if source["reader"] == name}
        for name in sorted((*OFFICIAL, *PHOTOGRAPHED))
    }
    CHECKSUMS = {name: raw_checksums.refresh(name, RAW, sections=parts) for name, parts in PARTS.items() if parts}
except UserError as error:
    raise WorkflowError(error)
for absence in ABSENCES:
    logger.warning(f"not available: {absence.what}, which needs {', '.join(absence.datasets)}")
for line in short_folders(RAW, CHECKSUMS):
    logger.warning(line)

if not config["evaluations"]:
    raise WorkflowError(
        f"params: track '{config['track']}' binds no data: it has no evaluation, so there is nothing to run"
    )

TRACK = config["track"]
RESULTS = f"results/{TRACK}"
REPORTS = f"reports/{TRACK}"
LOGS = f"{RESULTS}/logs"
BENCHMARKS = f"{RESULTS}/benchmarks"
EVALUATIONS = config["evaluations"]
# What jobs are given is read by name, so that every job knows the keys of params.yaml it depends on.
PARAMETERS = Parameters(config)
value = PARAMETERS.value
section = PARAMETERS.section
# What a job with networks takes of the GPUs that jobs may use at once, `--resources gpu=1` in the profile.
GPU = int(config["device"] == "cuda")
# ISO's chosen weighting runs once more under this name, with the number of iterations that validation chose.
SELECTED = "selected"

# Files that DVC or git put here come with records, which the ledger has: without one Snakemake would take any bytes.
try:
    for output in filter(os.path.exists, ledger.follow(TRACK)):
        logger.warning(f"{output}: has not the bytes that provenance/{TRACK} has; it is made again")
except OSError as error:
    raise WorkflowError(refusal(error))

# MLflow's own variable; kept out of the rules' parameters so that moving the database reruns nothing.
os.environ.setdefault("MLFLOW_TRACKING_URI", config["mlflow"]["uri"])


wildcard_constraints:
    source="[a-z0-9_]+",
    evaluation="[a-z0-9_]+",
    role="train3d|train2d|validation|calibration|adaptation|dynamics|test",
    split="train|validation",
    variant="[a-z0-9_]+",
    seed="[0-9]+",
    weighting="[a-z0-9_.]+",
    method="[a-z0-9_]+/[a-z0-9_.]+",
    table="[a-z0-9_]+",
    figure="[a-z0-9_]+",


def code(*modules):
    """Source files a stage runs, so that an edited module reruns the stages that use it and no others."""
    return sorted({os.path.relpath(path) for module in modules for path in source_files(module)})


def any_of(names):
    """A wildcard's constraint: one of the names; of none, what matches nothing (Snakemake ignores an empty one)."""
    return "|".join(names) or "(?!)"


def reader(source):
    """The reader of a source."""
    return config["sources"][source]["reader"]


def is_photographed(source):
    """Whether a source is people in photographs, not motion."""
    return reader(source) in PHOTOGRAPHED


def source_options(source):
    """Parameters of a source; cameras are placed only around motion that has none."""
    if is_photographed(source):
        return options(section(f"sources.{source}"))
    placed = {} if reader(source) in OFFICIAL else {"camera": value("camera")}
    return options(section(f"sources.{source}"), **placed, occluder=value("occluder"), seed=value("seed"))


def own(evaluation, key):
    """What an evaluation says of a key itself: None where it says nothing."""
    return PARAMETERS.get(f"evaluations.{evaluation}.{key}")


def owner(evaluation):
    """The evaluation whose estimator, calibration, lifters and validation choices this one uses."""
    return EVALUATIONS[evaluation].get("models_of") or evaluation


def outside(evaluation):
    """The detections made elsewhere that an evaluation reads, its own or its owner's; None where it detects itself."""
    bound = own(evaluation, "detections")
    return bound if bound.value is not None else own(owner(evaluation), "detections")


def outside_files(evaluation):
    """The files of the detections made elsewhere."""
    path = outside(evaluation).value["path"]
    return sorted(glob(f"{path}/*.json")) if os.path.isdir(path) else path


def outside_options(evaluation, role):
    """Parameters of the import of a role's detections."""
    bound = outside(evaluation)
    return options(
        section("detection", only=("margin", "smoothing")),
        reader=derived(bound.value["reader"], bound),
        selections=selections(evaluation, role),
        map_size=value("images.map_size"),
    )


def selections(evaluation, role):
    """The views bound to a role; roles an evaluation does not bind are those of the owner of its models."""
    bound = own(evaluation, role)
    if bound.value is not None:
        return bound
    inherited = value(f"evaluations.{owner(evaluation)}.{role}")
    return derived(inherited.value, inherited, own(evaluation, "models_of"))


def is_adapted(evaluation):
    """Whether an evaluation fits a joint adaptation, on views of its own."""
    return own(evaluation, "adaptation").value is not None


# Evaluations whose lifters predict the future too.
WITH_DYNAMICS = [name for name in EVALUATIONS if own(name, "dynamics").value is not None]
# Evaluations that are scored by an official protocol too.
WITH_PROTOCOL = [name for name in EVALUATIONS if own(name, "protocol").value is not None]


def role_of_split(split):
    """Images are drawn from the images role for training and from the validation role for validation."""
    return "images" if split == "train" else "validation"


def looks(role):
    """Which family of bodies, clothes and backgrounds is rendered: those of held-out roles are unseen in training."""
    return "train" if role in ("images", "train3d", "train2d") else "test"


def labelled(evaluation, *roles):
    """Labelled stores that the roles of an evaluation draw on; photographs come with their labels."""
    sources = {source for role in roles for source in drawn_on(evaluation, role)}
    folders = {source: "sequences" if is_photographed(source) else "labelled" for source in sources}
    return [f"{RESULTS}/{folders[source]}/{source}.h5" for source in sorted(sources)]


def drawn_on(evaluation, role):
    """Sources that a role of an evaluation draws on, sorted."""
    return sorted({s["source"] for s in selections(evaluation, role).value})


def store_options(paths, option="--store"):
    """The options that name sequence stores by source."""
    return " ".join(f"{option} {os.path.basename(path)[:-3]}={path}" for path in paths)


def run_key(path):
    """The key of a run in its record and in MLflow."""
    return text(f"{TRACK}/{path}", value("track"))


def variant_options(variant):
    """Parameters of a lifter variant: the full lifter's, with the variant's differences laid over."""
    return laid_over(section("lifter"), section(f"variants.{variant}.set"))


def is_adversarial(variant):
    """Whether a variant trains a discriminator."""
    return variant_options(variant)["discriminator"].value is not None


def variants(evaluation):
    """Lifter variants that an evaluation scores."""
    return own(evaluation, "variants").value or list(config["variants"])


def weightings(evaluation):
    """ISO weightings that an evaluation scores."""
    return own(evaluation, "weightings").value or list(config["iso"]["weightings"])


def controls(evaluation):
    """Weightings without a reprojection term: they show what the other terms do and are never chosen."""
    entries = config["iso"]["weightings"]
    return [name for name in weightings(evaluation) if entries[name]["weighting"]["kind"] == "none"]


def lifter_methods(evaluation):
    """Every trained lifter of an evaluation, as variant/seedN."""
    return [f"{v}/seed{s}" for v in variants(evaluation) for s in config["variants"][v]["seeds"]]


def iso_methods(evaluation):
    """Every ISO result of an evaluation with the parameters of Table 2, as iso/weighting."""
    return [f"iso/{weighting}" for weighting in weightings(evaluation)]


# What a row of Table 2 sets for itself; its label and the paper's row are the report's business.
REFINE_KEYS = ("weighting", "projection", "variable", "learning_rate", "adversarial")


def weighting_options(weighting):
    """What a weighting sets for itself."""
    return section(f"iso.weightings.{weighting}", only=REFINE_KEYS)


def refine_options(weighting):
    """Parameters of a refinement; those of the chosen weighting are laid over by the selection."""
    common = section("iso", without=("lifter", "weightings"))
    special = {"weighting": {}} if weighting == SELECTED else weighting_options(weighting)
    lifter = value("iso.lifter")
    discriminator = variant_options(lifter.value)["discriminator"]
    objective = derived(discriminator.value["objective"], discriminator, lifter)
    return options(common, special, objective=objective, device=value("device"))


def parent_run(evaluation):
    """The key of the run that made the lifter ISO starts from."""
    lifter = value("iso.lifter")
    return text(
        f"{TRACK}/{owner(evaluation)}/lifter/{refined_lifter()}",
        value("track"),
        own(evaluation, "models_of"),
        lifter,
        value(f"variants.{lifter.value}.seeds"),
    )


def first_seed(variant):
    """The seed of a variant that figures show and ISO starts from, as seedN."""
    return f"seed{config['variants'][variant]['seeds'][0]}"


def refined_lifter():
    """The lifter that ISO starts from, as variant/seedN."""
    variant = config["iso"]["lifter"]
    return f"{variant}/{first_seed(variant)}"


def uses_2d_data(variant):
    """Whether a variant trains on the 2D-only role."""
    return variant_options(variant)["weights"].value["projection"] > 0


def training_roles(variant):
    """Roles that the training of a variant reads."""
    return ["train3d", "validation", *(["train2d"] if uses_2d_data(variant) else [])]


ADVERSARIAL = [variant for variant in config["variants"] if is_adversarial(variant)]
PLAIN = [variant for variant in config["variants"] if not is_adversarial(variant)]


def needs_maps(variant):
    """Whether a variant's embedding looks at heatmaps."""
    return variant_options(variant)["embedding"].value["kind"] in NEED_MAPS


def check_outside(evaluation):
    """Refuse what cannot be done with detections made elsewhere."""
    if outside(owner(evaluation)).value is None:
        raise WorkflowError(
            f"params: evaluation '{evaluation}' has detections made elsewhere, but the models of '{owner(evaluation)}' "
            "saw the estimator's; give both evaluations the same detector's"
        )
    blind = sorted({name for name in [*variants(evaluation), config["iso"]["lifter"]] if needs_maps(name)})
    if blind:
        raise WorkflowError(
            f"params: evaluation '{evaluation}' has detections made elsewhere, without heatmaps, which embedding.kind of "
            f"{', '.join(blind)} needs; expected coordinates or coordinates_confidence; name variants of these kinds in "
            f"evaluations.{evaluation}.variants and in iso.lifter"
        )


def check_roles(evaluation):
    """Refuse an evaluation with models of its own that lacks a role that they need."""
    models = owner(evaluation)
    needed = ["train3d", "validation", "calibration", *(["images"] if models in DETECTED else [])]
    for role in needed:
        if models not in EVALUATIONS or not EVALUATIONS[models].get(role):
            raise WorkflowError(
                f"params: evaluations.{models}: has no role '{role}', which the models of '{evaluation}' need; expected "
                "selections of views"
            )


def has_real_images(evaluation):
    """Whether the estimator of an evaluation learns from recorded people, not from rendered ones."""
    sources = [source for role in ("images", "validation") for source in drawn_on(evaluation, role)]
    kinds = {reader(source) in (*OFFICIAL, *PHOTOGRAPHED) for source in sources}
    if len(kinds) > 1:
        raise WorkflowError(
            f"params: evaluation '{evaluation}': some images of the roles images and validation are recorded and some "
            "rendered; expected one kind"
        )
    return kinds == {True}


IMPORTED = [name for name in EVALUATIONS if outside(name).value is not None]
DETECTED = [name for name in EVALUATIONS if name not in IMPORTED]
for name in IMPORTED:
    check_outside(name)
for name in EVALUATIONS:
    check_roles(name)

# Evaluations whose estimator is their own, by what it learns from.
TRAINED = [name for name in DETECTED if owner(name) == name]
PHOTOGRAPHS = [name for name in TRAINED if has_real_images(name)]
RENDERED = [name for name in TRAINED if name not in PHOTOGRAPHS]
