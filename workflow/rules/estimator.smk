# Images of people, rendered or recorded -> the 2D estimator -> detections of every role -> calibrated confidence (paper 3.1, 3.5).
# An evaluation that names detections made elsewhere reads them instead, and has no images and no estimator.


rule mlflow_database:
    output:
        f"{RESULTS}/mlflow.ready",
    log:
        f"{LOGS}/mlflow_database.log",
    benchmark:
        f"{BENCHMARKS}/mlflow_database.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        experiment=lambda w: text(TRACK, value("track")),
    shell:
        "python -m isopose.tracking init --experiment {params.experiment} --marker {output} > {log} 2>&1"


rule render_images:
    input:
        stores=lambda w: labelled(w.evaluation, role_of_split(w.split)),
        code=code("isopose.rendering"),
    output:
        f"{RESULTS}/{{evaluation}}/images/{{split}}.h5",
    log:
        f"{LOGS}/{{evaluation}}/render_images/{{split}}.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/render_images/{{split}}.tsv"
    wildcard_constraints:
        evaluation=any_of(RENDERED),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        options=lambda w: options(
            section("images", without=("train", "validation")),
            selections=selections(w.evaluation, role_of_split(w.split)),
            images=value(f"images.{w.split}"),
            split=looks(role_of_split(w.split)),
            seed=value("seed"),
        ),
        stores=lambda w, input: store_options(input.stores),
    shell:
        "python -m isopose.rendering {params.stores} --output {output} --params {params.options:q} > {log} 2>&1"


rule cut_images:
    input:
        stores=lambda w: labelled(w.evaluation, role_of_split(w.split)),
        code=code("isopose.photographs"),
    output:
        f"{RESULTS}/{{evaluation}}/images/{{split}}.h5",
    log:
        f"{LOGS}/{{evaluation}}/cut_images/{{split}}.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/cut_images/{{split}}.tsv"
    wildcard_constraints:
        evaluation=any_of(PHOTOGRAPHS),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        options=lambda w: options(
            section("images", without=("train", "validation", "training_occluders")),
            selections=selections(w.evaluation, role_of_split(w.split)),
            images=value(f"images.{w.split}"),
            split=looks(role_of_split(w.split)),
            seed=value("seed"),
        ),
        stores=lambda w, input: store_options(input.stores),
    shell:
        "python -m isopose.photographs {params.stores} --output {output} --params {params.options:q} > {log} 2>&1"


rule train_estimator:
    input:
        images=f"{RESULTS}/{{evaluation}}/images/train.h5",
        validation=f"{RESULTS}/{{evaluation}}/images/validation.h5",
        mlflow=f"{RESULTS}/mlflow.ready",
        code=code("isopose.training.estimator"),
    output:
        weights=f"{RESULTS}/{{evaluation}}/estimator/estimator.safetensors",
        record=f"{RESULTS}/{{evaluation}}/estimator/record.json",
    log:
        f"{LOGS}/{{evaluation}}/train_estimator.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/train_estimator.tsv"
    conda:
        "../../environment.yml"
    threads: config["estimator"]["threads"]
    resources:
        mem_mb=3000,
        runtime=30,
        gpu=GPU,
    params:
        options=lambda w: options(section("estimator"), seed=value("seed"), device=value("device")),
        key=lambda w: run_key(f"{w.evaluation}/estimator"),
    shell:
        "python -m isopose.training.estimator --images {input.images} --validation {input.validation}"
        " --output {output.weights} --record {output.record} --key {params.key}"
        " --params {params.options:q} > {log} 2>&1"


rule detect:
    input:
        stores=lambda w: labelled(w.evaluation, w.role),
        estimator=lambda w: f"{RESULTS}/{owner(w.evaluation)}/estimator/estimator.safetensors",
        code=code("isopose.detection"),
    output:
        detections=f"{RESULTS}/{{evaluation}}/detections/{{role}}.h5",
        quality=f"{RESULTS}/{{evaluation}}/detections/{{role}}.json",
    log:
        f"{LOGS}/{{evaluation}}/detect/{{role}}.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/detect/{{role}}.tsv"
    wildcard_constraints:
        evaluation=any_of(DETECTED),
    conda:
        "../../environment.yml"
    threads: config["detection"]["threads"]
    resources:
        mem_mb=2000,
        runtime=30,
        gpu=GPU,
    params:
        options=lambda w: options(
            section("detection"),
            selections=selections(w.evaluation, w.role),
            split=looks(w.role),
            device=value("device"),
        ),
        stores=lambda w, input: store_options(input.stores),
    shell:
        "python -m isopose.detection {params.stores} --estimator {input.estimator} --output {output.detections}"
        " --quality {output.quality} --params {params.options:q} > {log} 2>&1"


rule import_detections:
    input:
        stores=lambda w: labelled(w.evaluation, w.role),
        found=lambda w: outside_files(w.evaluation),
        code=code("isopose.datasets.import_detections"),
    output:
        detections=f"{RESULTS}/{{evaluation}}/detections/{{role}}.h5",
        quality=f"{RESULTS}/{{evaluation}}/detections/{{role}}.json",
    log:
        f"{LOGS}/{{evaluation}}/import_detections/{{role}}.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/import_detections/{{role}}.tsv"
    wildcard_constraints:
        evaluation=any_of(IMPORTED),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=30,
    params:
        options=lambda w: outside_options(w.evaluation, w.role),
        found=lambda w: text(outside(w.evaluation).value["path"], outside(w.evaluation)),
        stores=lambda w, input: store_options(input.stores),
    shell:
        "python -m isopose.datasets.import_detections {params.stores} --found {params.found:q}"
        " --output {output.detections} --quality {output.quality} --params {params.options:q} > {log} 2>&1"


rule calibrate:
    input:
        stores=lambda w: labelled(w.evaluation, "calibration"),
        detections=f"{RESULTS}/{{evaluation}}/detections/calibration.h5",
        code=code("isopose.calibrate"),
    output:
        f"{RESULTS}/{{evaluation}}/calibration/calibration.json",
    log:
        f"{LOGS}/{{evaluation}}/calibrate.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/calibrate.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        options=lambda w: options(section("calibration")),
        stores=lambda w, input: store_options(input.stores),
    shell:
        "python -m isopose.calibrate {params.stores} --detections {input.detections} --output {output}"
        " --params {params.options:q} > {log} 2>&1"
