# Inference stage optimisation (paper 3.5): every weighting, and the one that validation chooses.


rule refine:
    input:
        stores=lambda w: labelled(w.evaluation, w.role),
        poses=f"{RESULTS}/{{evaluation}}/poses/{{role}}/{refined_lifter()}.h5",
        detections=f"{RESULTS}/{{evaluation}}/detections/{{role}}.h5",
        calibration=lambda w: f"{RESULTS}/{owner(w.evaluation)}/calibration/calibration.json",
        discriminator=lambda w: (
            f"{RESULTS}/{owner(w.evaluation)}/lifters/{refined_lifter()}/discriminator.safetensors"
        ),
        lifter=lambda w: f"{RESULTS}/{owner(w.evaluation)}/lifters/{refined_lifter()}/lifter.safetensors",
        selection=lambda w: [f"{RESULTS}/{w.evaluation}/iso/selection.json"] if w.weighting == SELECTED else [],
        mlflow=f"{RESULTS}/mlflow.ready",
        code=code("isopose.iso.refine"),
    output:
        poses=f"{RESULTS}/{{evaluation}}/poses/{{role}}/iso/{{weighting}}.h5",
        trace=f"{RESULTS}/{{evaluation}}/iso/{{role}}/{{weighting}}/trace.csv",
        record=f"{RESULTS}/{{evaluation}}/iso/{{role}}/{{weighting}}/record.json",
    log:
        f"{LOGS}/{{evaluation}}/refine/{{role}}/{{weighting}}.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/refine/{{role}}/{{weighting}}.tsv"
    conda:
        "../../environment.yml"
    threads: config["iso"]["threads"]
    resources:
        mem_mb=3000,
        runtime=30,
        gpu=GPU,
    params:
        options=lambda w: refine_options(w.weighting),
        selection=lambda w, input: f"--selection {input.selection}" if input.selection else "",
        stores=lambda w, input: store_options(input.stores),
        key=lambda w: run_key(f"{w.evaluation}/iso/{w.role}/{w.weighting}"),
        parent=lambda w: parent_run(w.evaluation),
    shell:
        "python -m isopose.iso.refine {params.stores} --poses {input.poses} --detections {input.detections}"
        " --calibration {input.calibration} --discriminator {input.discriminator} --lifter {input.lifter}"
        " --output {output.poses} --trace {output.trace} --record {output.record} --key {params.key}"
        " --parent {params.parent} {params.selection} --params {params.options:q} > {log} 2>&1"


# An evaluation chooses among its own weightings; the errors are those of its owner's validation role.
rule select_weighting:
    input:
        traces=lambda w: [
            f"{RESULTS}/{owner(w.evaluation)}/iso/validation/{weighting}/trace.csv"
            for weighting in weightings(w.evaluation)
        ],
        code=code("isopose.iso.select"),
    output:
        f"{RESULTS}/{{evaluation}}/iso/selection.json",
    log:
        f"{LOGS}/{{evaluation}}/select_weighting.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/select_weighting.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=5,
    params:
        options=lambda w: options(
            weightings=derived(
                {name: weighting_options(name) for name in weightings(w.evaluation)}, own(w.evaluation, "weightings")
            )
        ),
        controls=lambda w: " ".join(f"--control {weighting}" for weighting in controls(w.evaluation)),
        traces=lambda w, input: " ".join(f"--trace {path.split('/')[-2]}={path}" for path in input.traces),
    shell:
        "python -m isopose.iso.select {params.traces} {params.controls} --output {output}"
        " --params {params.options:q} > {log} 2>&1"
