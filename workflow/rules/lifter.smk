# Train the lifters (with the discriminator, where a variant has one) and lift (paper 3.1 - 3.3).


rule train_lifter:
    input:
        stores=lambda w: labelled(w.evaluation, *training_roles(w.variant)),
        train3d=f"{RESULTS}/{{evaluation}}/detections/train3d.h5",
        train2d=lambda w: (f"{RESULTS}/{w.evaluation}/detections/train2d.h5" if uses_2d_data(w.variant) else []),
        validation=f"{RESULTS}/{{evaluation}}/detections/validation.h5",
        mlflow=f"{RESULTS}/mlflow.ready",
        code=code("isopose.training.lifter"),
    output:
        weights=f"{RESULTS}/{{evaluation}}/lifters/{{variant}}/seed{{seed}}/lifter.safetensors",
        record=f"{RESULTS}/{{evaluation}}/lifters/{{variant}}/seed{{seed}}/record.json",
    log:
        f"{LOGS}/{{evaluation}}/train_lifter/{{variant}}/seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/train_lifter/{{variant}}/seed{{seed}}.tsv"
    wildcard_constraints:
        variant=any_of(PLAIN),
    conda:
        "../../environment.yml"
    threads: config["lifter"]["threads"]
    resources:
        mem_mb=3000,
        runtime=30,
        gpu=GPU,
    params:
        options=lambda w: options(variant_options(w.variant), seed=int(w.seed), device=value("device")),
        stores=lambda w, input: store_options(input.stores),
        train2d=lambda w, input: f"--train2d {input.train2d}" if input.train2d else "",
        discriminator="",
        key=lambda w: run_key(f"{w.evaluation}/lifter/{w.variant}/seed{w.seed}"),
    shell:
        "python -m isopose.training.lifter {params.stores} --train3d {input.train3d} {params.train2d}"
        " --validation {input.validation} --output {output.weights} {params.discriminator}"
        " --record {output.record} --key {params.key} --params {params.options:q} > {log} 2>&1"


use rule train_lifter as train_adversarial_lifter with:
    output:
        weights=f"{RESULTS}/{{evaluation}}/lifters/{{variant}}/seed{{seed}}/lifter.safetensors",
        record=f"{RESULTS}/{{evaluation}}/lifters/{{variant}}/seed{{seed}}/record.json",
        discriminator=f"{RESULTS}/{{evaluation}}/lifters/{{variant}}/seed{{seed}}/discriminator.safetensors",
    wildcard_constraints:
        variant=any_of(ADVERSARIAL),
    params:
        options=lambda w: options(variant_options(w.variant), seed=int(w.seed), device=value("device")),
        stores=lambda w, input: store_options(input.stores),
        train2d=lambda w, input: f"--train2d {input.train2d}" if input.train2d else "",
        discriminator=lambda w, output: f"--discriminator {output.discriminator}",
        key=lambda w: run_key(f"{w.evaluation}/lifter/{w.variant}/seed{w.seed}"),


rule lift:
    input:
        stores=lambda w: labelled(w.evaluation, w.role),
        detections=f"{RESULTS}/{{evaluation}}/detections/{{role}}.h5",
        lifter=lambda w: (f"{RESULTS}/{owner(w.evaluation)}/lifters/{w.variant}/seed{w.seed}/lifter.safetensors"),
        code=code("isopose.lifting"),
    output:
        f"{RESULTS}/{{evaluation}}/poses/{{role}}/{{variant}}/seed{{seed}}.h5",
    log:
        f"{LOGS}/{{evaluation}}/lift/{{role}}/{{variant}}/seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/lift/{{role}}/{{variant}}/seed{{seed}}.tsv"
    wildcard_constraints:
        variant="|".join(config["variants"]),
    conda:
        "../../environment.yml"
    threads: config["lifting"]["threads"]
    resources:
        mem_mb=2000,
        runtime=20,
        gpu=GPU,
    params:
        options=lambda w: options(section("lifting"), device=value("device")),
        stores=lambda w, input: store_options(input.stores),
        mean_pose="",
    shell:
        "python -m isopose.lifting {params.stores} --detections {input.detections} --lifter {input.lifter} {params.mean_pose}"
        " --output {output} --params {params.options:q} > {log} 2>&1"


use rule lift as lift_mean_pose with:
    input:
        stores=lambda w: labelled(w.evaluation, w.role),
        detections=f"{RESULTS}/{{evaluation}}/detections/{{role}}.h5",
        lifter=lambda w: f"{RESULTS}/{owner(w.evaluation)}/lifters/{refined_lifter()}/lifter.safetensors",
        code=code("isopose.lifting"),
    output:
        f"{RESULTS}/{{evaluation}}/poses/{{role}}/{{variant}}/seed{{seed}}.h5",
    wildcard_constraints:
        variant="mean_pose",
    params:
        options=lambda w: options(section("lifting"), device=value("device")),
        stores=lambda w, input: store_options(input.stores),
        mean_pose="--mean-pose",
