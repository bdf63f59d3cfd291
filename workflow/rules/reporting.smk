# Tables, figures and the page of a track: computed from scores and records, never typed in.

TABLES = ["ablation", "iso", "actions_mpjpe", "actions_p_mpjpe", "occlusion", "estimator"]
FIGURES = ["ablation", "occlusion", "iso_curves", "samples", "calibration", "cylinder_man"]
# Of the models' owner alone: what concerns training, and what is the same for every evaluation.
OWNER_FIGURES = ["training", "weights"]
PUBLISHED = [7, 8]
TRAINING_PANELS = [
    {"metric": "loss_pose", "label": "Pose loss (Eq. 1)"},
    {"metric": "validation_mpjpe_mm", "label": "MPJPE on validation, mm"},
]


def is_synthetic(evaluation):
    """Whether an evaluation is scored on generated motion."""
    readers = {config["sources"][s["source"]]["reader"] for s in selections(evaluation, "test")}
    return readers == {"synthetic"}


def about(evaluation, **values):
    """What every table and figure says of its data, and further parameters, as JSON."""
    dataset = " + ".join(sorted({s["source"] for s in selections(evaluation, "test")}))
    return options({"track": TRACK, "dataset": dataset, "synthetic": is_synthetic(evaluation)}, **values)


def row(name, entry):
    """One row of a table: its name, label and the paper's row beside it."""
    return {"name": name} | {key: entry[key] for key in ("label", "published") if key in entry}


def variant_rows(evaluation):
    """Rows of the mean pose and of every lifter."""
    rows = [row(variant, config["variants"][variant]) for variant in variants(evaluation)]
    return [{"name": "mean_pose", "label": "Mean training pose"}, *rows]


SELECTED_ROW = {"name": "iso/selected", "label": "+ ISO (weighting chosen on validation)", "published": "+ISO"}


def ablation_rows(evaluation):
    """Rows of Table 3: ISO follows the variant it starts from."""
    rows = variant_rows(evaluation)
    after = [entry["name"] for entry in rows].index(config["iso"]["lifter"]) + 1
    return rows[:after] + [SELECTED_ROW] + rows[after:]


def iso_rows(evaluation):
    """Rows of Table 2: no ISO, then every weighting."""
    without = {"name": config["iso"]["lifter"], "label": "No ISO", "published": "Baseline (no ISO)"}
    entries = config["iso"]["weightings"]
    return [without] + [row(f"iso/{weighting}", entries[weighting]) for weighting in weightings(evaluation)]


def main_rows(evaluation):
    """Base, the lifter that ISO starts from, and ISO, where an evaluation has them."""
    names = ("base", config["iso"]["lifter"])
    rows = [row(name, config["variants"][name]) for name in names if name in variants(evaluation)]
    return rows + [SELECTED_ROW]


def scored(evaluation, *methods):
    """Grouped scores of methods on the test role."""
    return [f"{RESULTS}/{evaluation}/scores/test/{method}.csv" for method in methods]


def main_scores(evaluation):
    """Scores of the main rows; of ISO all weightings, of which the table shows the selected one."""
    names = [entry["name"] for entry in main_rows(evaluation)]
    lifters = [method for method in lifter_methods(evaluation) if method.split("/")[0] in names]
    return scored(evaluation, *lifters, *iso_methods(evaluation))


def main_poses(evaluation):
    """Poses of the main rows by name: the first seed of a lifter; of ISO all weightings."""
    first = {entry["name"]: f"{entry['name']}/{first_seed(entry['name'])}" for entry in main_rows(evaluation)[:-1]}
    methods = first | {method: method for method in iso_methods(evaluation)}
    return {name: f"{RESULTS}/{evaluation}/poses/test/{method}.h5" for name, method in methods.items()}


def method_of(path):
    """The method a file of scores belongs to: its last two parts, without the ending."""
    return "/".join(os.path.splitext(path)[0].split("/")[-2:])


def table_scores(w):
    evaluation = w.evaluation
    if w.table == "iso":
        return scored(evaluation, refined_lifter(), *iso_methods(evaluation))
    if w.table == "ablation":
        return scored(evaluation, "mean_pose/seed1", *lifter_methods(evaluation), *iso_methods(evaluation))
    return main_scores(evaluation)


def table_options(w):
    evaluation = w.evaluation
    comparison = {
        "average": config["report"]["average"],
        "resamples": config["scores"]["bootstrap_samples"],
        "seed": SEED,
    }
    return {
        "ablation": lambda: about(evaluation, rows=ablation_rows(evaluation), **comparison),
        "iso": lambda: about(evaluation, rows=iso_rows(evaluation), **comparison),
        "actions_mpjpe": lambda: about(evaluation, rows=main_rows(evaluation), metric="mpjpe"),
        "actions_p_mpjpe": lambda: about(evaluation, rows=main_rows(evaluation), metric="p_mpjpe"),
        "occlusion": lambda: about(evaluation, rows=main_rows(evaluation)),
    }[w.table]()


rule table:
    input:
        scores=table_scores,
        selection=f"{RESULTS}/{{evaluation}}/iso/selection.json",
        code=code("isopose.reporting.tables"),
    output:
        multiext(f"{REPORTS}/{{evaluation}}/tables/{{table}}", csv=".csv", md=".md", tex=".tex"),
    params:
        options=table_options,
        command=lambda w: "actions" if w.table.startswith("actions") else w.table,
        scores=lambda w, input: " ".join(f"--scores {method_of(path)}={path}" for path in input.scores),
    wildcard_constraints:
        table="ablation|iso|actions_mpjpe|actions_p_mpjpe|occlusion",
    log:
        f"{LOGS}/{{evaluation}}/table/{{table}}.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/table/{{table}}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    conda:
        "../../environment.yml"
    shell:
        "python -m isopose.reporting.tables {params.command} {params.scores} --selection {input.selection}"
        " --output {output.csv} --params {params.options:q} > {log} 2>&1"


rule estimator_table:
    input:
        quality=f"{RESULTS}/{{evaluation}}/detections/test.json",
        calibration=lambda w: f"{RESULTS}/{owner(w.evaluation)}/calibration/calibration.json",
        code=code("isopose.reporting.tables"),
    output:
        multiext(f"{REPORTS}/{{evaluation}}/tables/estimator", csv=".csv", md=".md", tex=".tex"),
    params:
        options=lambda w: about(w.evaluation),
    log:
        f"{LOGS}/{{evaluation}}/table/estimator.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/table/estimator.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    conda:
        "../../environment.yml"
    shell:
        "python -m isopose.reporting.tables estimator --quality {wildcards.evaluation}={input.quality}"
        " --calibration {wildcards.evaluation}={input.calibration}"
        " --output {output.csv} --params {params.options:q} > {log} 2>&1"


rule published_table:
    input:
        code=code("isopose.reporting.tables"),
    output:
        multiext(f"{REPORTS}/published/tables/published_{{number}}", csv=".csv", md=".md", tex=".tex"),
    log:
        f"{LOGS}/table/published_{{number}}.log",
    benchmark:
        f"{BENCHMARKS}/table/published_{{number}}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    conda:
        "../../environment.yml"
    shell:
        "python -m isopose.reporting.tables published --table {wildcards.number} --output {output.csv} > {log} 2>&1"


rule table_figure:
    input:
        table=f"{REPORTS}/{{evaluation}}/tables/{{figure}}.csv",
        code=code("isopose.reporting.figures"),
    output:
        multiext(f"{REPORTS}/{{evaluation}}/figures/{{figure}}", svg=".svg", png=".png"),
    params:
        options=lambda w: about(w.evaluation),
    wildcard_constraints:
        figure="ablation|occlusion",
    log:
        f"{LOGS}/{{evaluation}}/figure/{{figure}}.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/figure/{{figure}}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    conda:
        "../../environment.yml"
    shell:
        "python -m isopose.reporting.figures {wildcards.figure} --table {input.table} --output {output.svg}"
        " --params {params.options:q} > {log} 2>&1"


rule iso_curves_figure:
    input:
        traces=lambda w: [
            f"{RESULTS}/{w.evaluation}/iso/test/{weighting}/trace.csv" for weighting in weightings(w.evaluation)
        ],
        code=code("isopose.reporting.figures"),
    output:
        multiext(f"{REPORTS}/{{evaluation}}/figures/iso_curves", svg=".svg", png=".png"),
    params:
        options=lambda w: about(w.evaluation, rows=iso_rows(w.evaluation)),
        traces=lambda w, input: " ".join(f"--trace iso/{path.split('/')[-2]}={path}" for path in input.traces),
    log:
        f"{LOGS}/{{evaluation}}/figure/iso_curves.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/figure/iso_curves.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    conda:
        "../../environment.yml"
    shell:
        "python -m isopose.reporting.figures iso_curves {params.traces} --output {output.svg}"
        " --params {params.options:q} > {log} 2>&1"


rule calibration_figure:
    input:
        calibration=lambda w: f"{RESULTS}/{owner(w.evaluation)}/calibration/calibration.json",
        code=code("isopose.reporting.figures"),
    output:
        multiext(f"{REPORTS}/{{evaluation}}/figures/calibration", svg=".svg", png=".png"),
    params:
        options=lambda w: about(w.evaluation),
    log:
        f"{LOGS}/{{evaluation}}/figure/calibration.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/figure/calibration.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    conda:
        "../../environment.yml"
    shell:
        "python -m isopose.reporting.figures calibration --calibration {input.calibration} --output {output.svg}"
        " --params {params.options:q} > {log} 2>&1"


rule samples_figure:
    input:
        stores=lambda w: labelled(w.evaluation, "test"),
        detections=f"{RESULTS}/{{evaluation}}/detections/test.h5",
        poses=lambda w: list(main_poses(w.evaluation).values()),
        selection=f"{RESULTS}/{{evaluation}}/iso/selection.json",
        code=code("isopose.reporting.figures"),
    output:
        multiext(f"{REPORTS}/{{evaluation}}/figures/samples", svg=".svg", png=".png"),
    params:
        options=lambda w: about(w.evaluation, rows=main_rows(w.evaluation), split=looks("test"), count=4),
        stores=lambda w, input: store_options(input.stores),
        predictions=lambda w: " ".join(f"--prediction {k}={v}" for k, v in main_poses(w.evaluation).items()),
    log:
        f"{LOGS}/{{evaluation}}/figure/samples.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/figure/samples.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    conda:
        "../../environment.yml"
    shell:
        "python -m isopose.reporting.figures samples {params.stores} --detections {input.detections}"
        " {params.predictions} --selection {input.selection} --output {output.svg}"
        " --params {params.options:q} > {log} 2>&1"


rule cylinder_man_figure:
    input:
        stores=lambda w: labelled(w.evaluation, "test"),
        code=code("isopose.reporting.figures"),
    output:
        multiext(f"{REPORTS}/{{evaluation}}/figures/cylinder_man", svg=".svg", png=".png"),
    params:
        options=lambda w: about(w.evaluation, selections=selections(w.evaluation, "test"), split=looks("test")),
        stores=lambda w, input: store_options(input.stores),
    log:
        f"{LOGS}/{{evaluation}}/figure/cylinder_man.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/figure/cylinder_man.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    conda:
        "../../environment.yml"
    shell:
        "python -m isopose.reporting.figures cylinder_man {params.stores} --output {output.svg}"
        " --params {params.options:q} > {log} 2>&1"


rule training_figure:
    input:
        records=lambda w: [
            f"{RESULTS}/{w.evaluation}/lifters/{variant}/{first_seed(variant)}/record.json"
            for variant in variants(w.evaluation)
        ],
        code=code("isopose.reporting.figures"),
    output:
        multiext(f"{REPORTS}/{{evaluation}}/figures/training", svg=".svg", png=".png"),
    params:
        options=lambda w: about(
            w.evaluation, rows=variant_rows(w.evaluation), panels=TRAINING_PANELS
        ),
        records=lambda w, input: " ".join(
            f"--record {path.split('/')[-3]}={path}" for path in input.records
        ),
    log:
        f"{LOGS}/{{evaluation}}/figure/training.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/figure/training.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    conda:
        "../../environment.yml"
    shell:
        "python -m isopose.reporting.figures training {params.records} --output {output.svg}"
        " --params {params.options:q} > {log} 2>&1"


rule weights_figure:
    input:
        code=code("isopose.reporting.figures"),
    output:
        multiext(f"{REPORTS}/{{evaluation}}/figures/weights", svg=".svg", png=".png"),
    params:
        options=options(config["report"]["weights_figure"]),
    log:
        f"{LOGS}/{{evaluation}}/figure/weights.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/figure/weights.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    conda:
        "../../environment.yml"
    shell:
        "python -m isopose.reporting.figures weights --output {output.svg} --params {params.options:q} > {log} 2>&1"


def page_figures(evaluation):
    return FIGURES + (OWNER_FIGURES if owner(evaluation) == evaluation else [])


def summarised(evaluation):
    """The sets of predictions that the page sums up: the mean pose, Base and the full lifter, ISO's choice aside."""
    names = ("base", config["iso"]["lifter"])
    return ["mean_pose/seed1", *(m for m in lifter_methods(evaluation) if m.split("/")[0] in names)]


rule parameters:
    input:
        code=code("isopose.config"),
    output:
        f"{REPORTS}/params.yaml",
    params:
        config=json.dumps(config, sort_keys=True),
    log:
        f"{LOGS}/parameters.log",
    benchmark:
        f"{BENCHMARKS}/parameters.tsv"
    threads: 1
    resources:
        mem_mb=500,
        runtime=5,
    conda:
        "../../environment.yml"
    shell:
        "python -m isopose.config --params {params.config:q} --output {output} > {log} 2>&1"


rule index:
    input:
        metrics=[f"{RESULTS}/{e}/scores/test/{method}.json" for e in EVALUATIONS for method in summarised(e)],
        tables=[f"{REPORTS}/{e}/tables/{table}.csv" for e in EVALUATIONS for table in TABLES]
        + [f"{REPORTS}/published/tables/published_{number}.csv" for number in PUBLISHED],
        figures=[f"{REPORTS}/{e}/figures/{figure}.svg" for e in EVALUATIONS for figure in page_figures(e)],
        captions="workflow/report",
        parameters=f"{REPORTS}/params.yaml",
        code=code("isopose.reporting.html"),
    output:
        f"{REPORTS}/index.html",
    params:
        options=options(
            track=TRACK,
            synthetic=all(is_synthetic(e) for e in EVALUATIONS),
            datasets=sorted({s["source"] for e in EVALUATIONS for s in selections(e, "test")}),
            seeds=sorted({seed for entry in config["variants"].values() for seed in entry["seeds"]}),
            command="make reproduce" if TRACK == "demo" else f"make reproduce TRACK={TRACK}",
        ),
        metrics=lambda w, input: " ".join(
            f"--metrics {path.split('/')[2]}/{method_of(path)}={path}" for path in input.metrics
        ),
        tables=lambda w, input: " ".join(f"--table {path}" for path in input.tables),
        figures=lambda w, input: " ".join(f"--figure {path}" for path in input.figures),
    log:
        f"{LOGS}/index.log",
    benchmark:
        f"{BENCHMARKS}/index.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    conda:
        "../../environment.yml"
    shell:
        "python -m isopose.reporting.html {params.metrics} {params.tables} {params.figures}"
        " --captions {input.captions} --output {output} --parameters {input.parameters}"
        ' --revision "$(git describe --always --dirty 2>/dev/null || true)" --machine "$(uname -sm), $(nproc) cores"'
        " --params {params.options:q} > {log} 2>&1"
