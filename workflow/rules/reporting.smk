# Tables, figures and the page of a track: computed from scores and records, never typed in.


rule table:
    input:
        scores=table_scores,
        selection=lambda w: [f"{RESULTS}/{w.evaluation}/iso/selection.json"] if w.table == "iso" else [],
        paper=lambda w: [printed(w.table)] if w.table in PRINTED else [],
        code=code("isopose.reporting.tables"),
    output:
        table_files("{table}"),
    log:
        f"{LOGS}/{{evaluation}}/table/{{table}}.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/table/{{table}}.tsv"
    wildcard_constraints:
        table="ablation|components|iso|actions_mpjpe|actions_p_mpjpe|occlusion",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        options=table_options,
        command=lambda w: "actions" if w.table.startswith("actions") else w.table,
        scores=lambda w, input: " ".join(f"--scores {method_of(path)}={path}" for path in input.scores),
        selection=lambda w, input: f"--selection {input.selection}" if input.selection else "",
        paper=lambda w, input: f"--paper {input.paper}" if input.paper else "",
    shell:
        "python -m isopose.reporting.tables {params.command} {params.scores} {params.selection} {params.paper}"
        " --output {output.csv} --params {params.options:q} > {log} 2>&1"


rule estimator_table:
    input:
        quality=f"{RESULTS}/{{evaluation}}/detections/test.json",
        calibration=lambda w: f"{RESULTS}/{owner(w.evaluation)}/calibration/calibration.json",
        code=code("isopose.reporting.tables"),
    output:
        table_files("estimator"),
    log:
        f"{LOGS}/{{evaluation}}/table/estimator.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/table/estimator.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        options=lambda w: about(w.evaluation, imported=imported(w.evaluation)),
    shell:
        "python -m isopose.reporting.tables estimator --quality {wildcards.evaluation}={input.quality}"
        " --calibration {wildcards.evaluation}={input.calibration}"
        " --output {output.csv} --params {params.options:q} > {log} 2>&1"


rule official_table:
    input:
        scores=lambda w: [f"{RESULTS}/{w.evaluation}/official/{m}.csv" for m in main_methods(w.evaluation)],
        paper=lambda w: printed(own(w.evaluation, "protocol").value),
        code=code("isopose.reporting.tables"),
    output:
        table_files("official"),
    log:
        f"{LOGS}/{{evaluation}}/table/official.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/table/official.tsv"
    wildcard_constraints:
        evaluation=any_of(WITH_PROTOCOL),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        options=lambda w: about(w.evaluation, rows=main_rows(w.evaluation), protocol=own(w.evaluation, "protocol")),
        scores=lambda w, input: " ".join(f"--scores {method_of(path)}={path}" for path in input.scores),
    shell:
        "python -m isopose.reporting.tables official {params.scores} --paper {input.paper} --output {output.csv}"
        " --params {params.options:q} > {log} 2>&1"


rule dynamics_table:
    input:
        scores=lambda w: forecasts(w.evaluation),
        paper=printed("dynamics"),
        code=code("isopose.reporting.tables"),
    output:
        table_files("dynamics"),
    log:
        f"{LOGS}/{{evaluation}}/table/dynamics.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/table/dynamics.tsv"
    wildcard_constraints:
        evaluation=any_of(WITH_DYNAMICS),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        options=lambda w: about(w.evaluation, rows=forecast_rows(w.evaluation)),
        scores=lambda w, input: " ".join(f"--scores {method_of(path)}={path}" for path in input.scores),
    shell:
        "python -m isopose.reporting.tables dynamics {params.scores} --paper {input.paper} --output {output.csv}"
        " --params {params.options:q} > {log} 2>&1"


rule published_table:
    input:
        paper=lambda w: transcription(w.number),
        code=code("isopose.reporting.tables"),
    output:
        table_files("published_{number}", "published"),
    log:
        f"{LOGS}/table/published_{{number}}.log",
    benchmark:
        f"{BENCHMARKS}/table/published_{{number}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python -m isopose.reporting.tables published --paper {input.paper} --output {output.csv} > {log} 2>&1"


rule table_figure:
    input:
        table=f"{REPORTS}/{{evaluation}}/tables/{{figure}}.csv",
        code=code("isopose.reporting.figures"),
    output:
        figure_files("{figure}"),
    log:
        f"{LOGS}/{{evaluation}}/figure/{{figure}}.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/figure/{{figure}}.tsv"
    wildcard_constraints:
        figure="ablation|occlusion",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        options=lambda w: about(w.evaluation),
    shell:
        "python -m isopose.reporting.figures {wildcards.figure} --table {input.table} --output {output.svg}"
        " --params {params.options:q} > {log} 2>&1"


rule iso_curves_figure:
    input:
        traces=lambda w: [
            f"{RESULTS}/{w.evaluation}/iso/test/{weighting}/trace.csv"
            for weighting in [*weightings(w.evaluation), SELECTED]
        ],
        code=code("isopose.reporting.figures"),
    output:
        figure_files("iso_curves"),
    log:
        f"{LOGS}/{{evaluation}}/figure/iso_curves.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/figure/iso_curves.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        options=lambda w: about(w.evaluation, rows=iso_rows(w.evaluation)),
        traces=lambda w, input: " ".join(f"--trace iso/{path.split('/')[-2]}={path}" for path in input.traces),
    shell:
        "python -m isopose.reporting.figures iso_curves {params.traces} --output {output.svg}"
        " --params {params.options:q} > {log} 2>&1"


rule calibration_figure:
    input:
        calibration=lambda w: f"{RESULTS}/{owner(w.evaluation)}/calibration/calibration.json",
        code=code("isopose.reporting.figures"),
    output:
        figure_files("calibration"),
    log:
        f"{LOGS}/{{evaluation}}/figure/calibration.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/figure/calibration.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        options=lambda w: about(w.evaluation),
    shell:
        "python -m isopose.reporting.figures calibration --calibration {input.calibration} --output {output.svg}"
        " --params {params.options:q} > {log} 2>&1"


rule samples_figure:
    input:
        stores=lambda w: labelled(w.evaluation, "test"),
        detections=f"{RESULTS}/{{evaluation}}/detections/test.h5",
        poses=lambda w: list(main_poses(w.evaluation).values()),
        code=code("isopose.reporting.figures"),
    output:
        figure_files("samples"),
    log:
        f"{LOGS}/{{evaluation}}/figure/samples.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/figure/samples.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        options=lambda w: about(w.evaluation, rows=main_rows(w.evaluation), split=looks("test"), count=4),
        stores=lambda w, input: store_options(input.stores),
        predictions=lambda w: " ".join(f"--prediction {k}={v}" for k, v in main_poses(w.evaluation).items()),
    shell:
        "python -m isopose.reporting.figures samples {params.stores} --detections {input.detections}"
        " {params.predictions} --output {output.svg}"
        " --params {params.options:q} > {log} 2>&1"


rule cylinder_man_figure:
    input:
        stores=lambda w: labelled(w.evaluation, "test"),
        code=code("isopose.reporting.figures"),
    output:
        figure_files("cylinder_man"),
    log:
        f"{LOGS}/{{evaluation}}/figure/cylinder_man.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/figure/cylinder_man.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        options=lambda w: about(w.evaluation, selections=selections(w.evaluation, "test"), split=looks("test")),
        stores=lambda w, input: store_options(input.stores),
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
        figure_files("training"),
    log:
        f"{LOGS}/{{evaluation}}/figure/training.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/figure/training.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        options=lambda w: about(w.evaluation, rows=variant_rows(w.evaluation), panels=TRAINING_PANELS),
        records=lambda w, input: " ".join(f"--record {path.split('/')[-3]}={path}" for path in input.records),
    shell:
        "python -m isopose.reporting.figures training {params.records} --output {output.svg}"
        " --params {params.options:q} > {log} 2>&1"


rule masking_figure:
    input:
        detections=f"{RESULTS}/{{evaluation}}/detections/train3d.h5",
        code=code("isopose.reporting.figures"),
    output:
        figure_files("masking"),
    log:
        f"{LOGS}/{{evaluation}}/figure/masking.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/figure/masking.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        options=lambda w: about(
            w.evaluation, masking=value("lifter.masking"), frames=value("lifter.frames"), seed=value("seed")
        ),
    shell:
        "python -m isopose.reporting.figures masking --detections {input.detections} --output {output.svg}"
        " --params {params.options:q} > {log} 2>&1"


rule weights_figure:
    input:
        code=code("isopose.reporting.figures"),
    output:
        figure_files("weights"),
    log:
        f"{LOGS}/{{evaluation}}/figure/weights.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/figure/weights.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        options=lambda w: options(section("report.weights_figure")),
    shell:
        "python -m isopose.reporting.figures weights --output {output.svg} --params {params.options:q} > {log} 2>&1"


rule parameters:
    input:
        code=code("isopose.config"),
    output:
        f"{REPORTS}/params.yaml",
    log:
        f"{LOGS}/parameters.log",
    benchmark:
        f"{BENCHMARKS}/parameters.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=5,
    params:
        config=lambda w: options({key: value(key) for key in config}),
    shell:
        "python -m isopose.config --params {params.config:q} --output {output} > {log} 2>&1"


rule run_records:
    input:
        records=[f"{RESULTS}/{folder}/record.json" for folder in runs().values()],
        code=code("isopose.reporting.records"),
    output:
        [f"{REPORTS}/records/{key}.json" for key in runs()],
    log:
        f"{LOGS}/run_records.log",
    benchmark:
        f"{BENCHMARKS}/run_records.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=5,
    params:
        records=lambda w, input: " ".join(f"--record {path}" for path in input.records),
        folder=lambda w: f"{REPORTS}/records",
    shell:
        "python -m isopose.reporting.records {params.records} --output {params.folder} > {log} 2>&1"


rule index:
    input:
        records=[f"{REPORTS}/records/{key}.json" for key in runs()],
        metrics=[f"{RESULTS}/{e}/scores/test/{method}.json" for e in EVALUATIONS for method in summarised(e)],
        tables=[f"{REPORTS}/{e}/tables/{table}.csv" for e in EVALUATIONS for table in page_tables(e)]
        + [f"{REPORTS}/published/tables/published_{number}.csv" for number in PUBLISHED],
        figures=[f"{REPORTS}/{e}/figures/{figure}.svg" for e in EVALUATIONS for figure in page_figures(e)],
        captions=sorted(glob("workflow/report/*_*.rst")),
        parameters=f"{REPORTS}/params.yaml",
        code=code("isopose.reporting.html"),
    output:
        f"{REPORTS}/index.html",
    log:
        f"{LOGS}/index.log",
    benchmark:
        f"{BENCHMARKS}/index.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        options=lambda w: page_options(),
        captions=lambda w: "workflow/report",
        records=lambda w: f"{REPORTS}/records",
        metrics=lambda w, input: " ".join(
            f"--metrics {path.split('/')[2]}/{method_of(path)}={path}" for path in input.metrics
        ),
        tables=lambda w, input: " ".join(f"--table {path}" for path in input.tables),
        figures=lambda w, input: " ".join(f"--figure {path}" for path in input.figures),
    shell:
        "python -m isopose.reporting.html {params.metrics} {params.tables} {params.figures}"
        " --captions {params.captions} --output {output} --parameters {input.parameters} --records {params.records}"
        ' --machine "$(uname -sm), $(getconf _NPROCESSORS_ONLN) cores"'
        " --params {params.options:q} > {log} 2>&1"
