# What tables and figures show: their rows, the scores behind them, and their parameters.

TABLES = ["ablation", "components", "iso", "actions_mpjpe", "actions_p_mpjpe", "occlusion", "estimator"]
FIGURES = ["ablation", "occlusion", "iso_curves", "samples", "calibration", "cylinder_man"]
# Of the models' owner alone: what concerns training, and what is the same for every evaluation.
OWNER_FIGURES = ["training", *(["masking"] if config["lifter"]["masking"] else []), "weights"]
# The paper's tables: those that the page shows whole, and those whose numbers stand in ours, by protocol or table.
PUBLISHED = [7, 8]
PRINTED = {"iso": 2, "ablation": 3, "humaneva": 4, "mpi_inf_3dhp": 5, "three_dpw": 6, "dynamics": 9}
TRAINING_PANELS = [
    {"metric": "loss_pose", "label": "Pose loss (Eq. 1)"},
    {"metric": "validation_mpjpe_mm", "label": "MPJPE on validation, mm"},
]


def transcription(number):
    """The file with the numbers that are printed in a table of the paper."""
    return os.path.relpath(PACKAGE / f"reporting/published/table{number}.csv")


def printed(name):
    """The paper's numbers that stand in a table, one of PRINTED."""
    return transcription(PRINTED[name])


def kind_of(readers):
    """What the data of these readers are, one of isopose.reporting.tables.KINDS."""
    if readers & set(OFFICIAL):
        return "recorded"
    return "synthetic" if readers == {"synthetic"} else "rendered"


def data_kind(*evaluations):
    """What the data are that evaluations are scored on."""
    tests = [selections(evaluation, "test") for evaluation in evaluations]
    sources = sorted({source for evaluation in evaluations for source in drawn_on(evaluation, "test")})
    readers = [value(f"sources.{source}.reader") for source in sources]
    return derived(kind_of({reader.value for reader in readers}), *tests, *readers)


def about(evaluation, **values):
    """What every table and figure says of its data, and further parameters, as JSON."""
    dataset = derived(" + ".join(drawn_on(evaluation, "test")), selections(evaluation, "test"))
    return options({"track": value("track"), "dataset": dataset, "kind": data_kind(evaluation)}, **values)


def imported(evaluation):
    """Whether the detections of an evaluation were made elsewhere."""
    return derived(evaluation in IMPORTED, own(evaluation, "models_of"), outside(evaluation))


def row(name, where):
    """One row of a table: its name, and the label and the paper's row beside it, which params.yaml has where."""
    return {"name": name} | section(where, only=("label", "published"))


def variant_rows(evaluation):
    """Rows of the mean pose and of every lifter."""
    rows = [row(variant, f"variants.{variant}") for variant in variants(evaluation)]
    return derived([{"name": "mean_pose", "label": "Mean training pose"}, *rows], own(evaluation, "variants"))


SELECTED_ROW = row("iso/selected", "report.iso_row")


def ablation_rows(evaluation):
    """Rows of Table 3: ISO follows the variant it starts from."""
    lifters, lifter = variant_rows(evaluation), value("iso.lifter")
    rows = lifters.value
    after = [entry["name"] for entry in rows].index(lifter.value) + 1
    return derived(rows[:after] + [SELECTED_ROW] + rows[after:], lifters, lifter)


def iso_rows(evaluation):
    """Rows of Table 2: no ISO, every weighting, and the chosen one with its own number of iterations."""
    without = {"name": value("iso.lifter"), "label": "No ISO", "published": "Baseline (no ISO)"}
    rows = [row(f"iso/{weighting}", f"iso.weightings.{weighting}") for weighting in weightings(evaluation)]
    chosen = {"name": "iso/selected", "label": SELECTED_ROW["label"]}
    return derived([without, *rows, chosen], own(evaluation, "weightings"))


def main_rows(evaluation):
    """Base, the lifter that ISO starts from, and ISO, where an evaluation has them."""
    lifter = value("iso.lifter")
    rows = [row(name, f"variants.{name}") for name in ("base", lifter.value) if name in variants(evaluation)]
    return derived([*rows, SELECTED_ROW], lifter, own(evaluation, "variants"))


def scored(evaluation, *methods):
    """Grouped scores of methods on the test role."""
    return [f"{RESULTS}/{evaluation}/scores/test/{method}.csv" for method in methods]


def main_methods(evaluation):
    """Runs of the main rows."""
    names = [entry["name"] for entry in main_rows(evaluation).value]
    lifters = [method for method in lifter_methods(evaluation) if method.split("/")[0] in names]
    return [*lifters, "iso/selected"]


def main_scores(evaluation):
    """Scores of the main rows."""
    return scored(evaluation, *main_methods(evaluation))


def forecast_rows(evaluation):
    """Rows of the lifters that predict the future."""
    rows = main_rows(evaluation)
    return derived(rows.value[:-1], rows)


def forecasts(evaluation):
    """Errors of the predicted futures of every seed of these lifters."""
    return [f"{RESULTS}/{evaluation}/forecast/{method}.csv" for method in main_methods(evaluation)[:-1]]


def main_poses(evaluation):
    """Poses of the main rows by name: the first seed of a lifter."""
    first = {
        entry["name"]: f"{entry['name']}/{first_seed(entry['name'])}" for entry in main_rows(evaluation).value[:-1]
    }
    methods = first | {"iso/selected": "iso/selected"}
    return {name: f"{RESULTS}/{evaluation}/poses/test/{method}.h5" for name, method in methods.items()}


def method_of(path):
    """The method a file of scores belongs to: its last two parts, without the ending."""
    return f"{Path(path).parent.name}/{Path(path).stem}"


def table_scores(w):
    """Scores that a table shows."""
    evaluation = w.evaluation
    if w.table == "iso":
        return scored(evaluation, refined_lifter(), *iso_methods(evaluation), "iso/selected")
    if w.table in ("ablation", "components"):
        return scored(evaluation, "mean_pose/seed1", *lifter_methods(evaluation), "iso/selected")
    return main_scores(evaluation)


def table_options(w):
    """Parameters of a table."""
    evaluation = w.evaluation
    comparison = {
        "average": value("report.average"),
        "resamples": value("scores.bootstrap_samples"),
        "seed": value("seed"),
    }
    return {
        "ablation": lambda: about(evaluation, rows=ablation_rows(evaluation), **comparison),
        "components": lambda: about(evaluation, rows=ablation_rows(evaluation)),
        "iso": lambda: about(evaluation, rows=iso_rows(evaluation), **comparison),
        "actions_mpjpe": lambda: about(evaluation, rows=main_rows(evaluation), metric="mpjpe"),
        "actions_p_mpjpe": lambda: about(evaluation, rows=main_rows(evaluation), metric="p_mpjpe"),
        "occlusion": lambda: about(evaluation, rows=main_rows(evaluation)),
    }[w.table]()


def page_tables(evaluation):
    """Tables of an evaluation, in the order of the page."""
    official = ["official"] if evaluation in WITH_PROTOCOL else []
    return TABLES + official + (["dynamics"] if evaluation in WITH_DYNAMICS else [])


def page_figures(evaluation):
    """Figures of an evaluation, in the order of the page."""
    return FIGURES + (OWNER_FIGURES if owner(evaluation) == evaluation else [])


def summarised(evaluation):
    """The sets of predictions that the page sums up: the mean pose, Base and the full lifter, ISO's choice aside."""
    names = ("base", config["iso"]["lifter"])
    return ["mean_pose/seed1", *(m for m in lifter_methods(evaluation) if m.split("/")[0] in names)]


def page_options():
    """Parameters of the page."""
    tests = [selections(e, "test") for e in EVALUATIONS]
    seeds = [value(f"variants.{variant}.seeds") for variant in config["variants"]]
    return options(
        track=value("track"),
        kind=data_kind(*EVALUATIONS),
        absent=[absence._asdict() for absence in ABSENCES],
        datasets=derived(sorted({source for e in EVALUATIONS for source in drawn_on(e, "test")}), *tests),
        seeds=derived(sorted({seed for s in seeds for seed in s.value}), *seeds),
        command="make reproduce" if TRACK == "demo" else f"make reproduce TRACK={TRACK}",
    )


def table_files(table, folder="{evaluation}"):
    """The files of a table; its CSV goes into `snakemake --report`."""
    csv, *others = multiext(f"{REPORTS}/{folder}/tables/{table}", csv=".csv", md=".md", tex=".tex")
    return [in_report(csv, "table", table, folder), *others]


def figure_files(figure):
    """The files of a figure; its SVG goes into `snakemake --report`."""
    svg, *others = multiext(f"{REPORTS}/{{evaluation}}/figures/{figure}", svg=".svg", png=".png")
    return [in_report(svg, "figure", figure, "{evaluation}"), *others]


def in_report(path, kind, name, folder):
    """A file that `snakemake --report` shows, under the caption that the page has too."""
    caption = "../report/caption.rst"
    return report(path, caption=caption, category=f"{kind.title()}s", subcategory=folder, labels={kind: name})


def runs():
    """Every run behind a track's tables, of estimators, lifters and ISO: its key without the track, and its folder."""
    owners = [e for e in EVALUATIONS if owner(e) == e]
    estimators = [f"{e}/estimator" for e in owners if e in DETECTED]
    refined = [f"{e}/iso/test/{name}" for e in EVALUATIONS for name in [*weightings(e), SELECTED]]
    lifters = {f"{e}/lifter/{m}": f"{e}/lifters/{m}" for e in owners for m in lifter_methods(e)}
    return {name: name for name in estimators + refined} | lifters
