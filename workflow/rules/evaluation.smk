# Score every frame of every set of poses against the truth, and the main ones by the official protocol of their data.


rule evaluate:
    input:
        stores=lambda w: labelled(w.evaluation, w.role),
        poses=f"{RESULTS}/{{evaluation}}/poses/{{role}}/{{method}}.h5",
        code=code("isopose.evaluation.evaluate"),
    output:
        scores=f"{RESULTS}/{{evaluation}}/scores/{{role}}/{{method}}.csv",
        metrics=f"{RESULTS}/{{evaluation}}/scores/{{role}}/{{method}}.json",
    log:
        f"{LOGS}/{{evaluation}}/evaluate/{{role}}/{{method}}.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/evaluate/{{role}}/{{method}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        options=lambda w: options(section("scores")),
        stores=lambda w, input: store_options(input.stores),
    shell:
        "python -m isopose.evaluation.evaluate {params.stores} --poses {input.poses} --output {output.scores}"
        " --metrics {output.metrics} --params {params.options:q} > {log} 2>&1"


rule official_scores:
    input:
        stores=lambda w: labelled(w.evaluation, "test"),
        poses=f"{RESULTS}/{{evaluation}}/poses/test/{{method}}.h5",
        fit_stores=lambda w: labelled(w.evaluation, "adaptation") if is_adapted(w.evaluation) else [],
        fit_poses=lambda w: (
            f"{RESULTS}/{w.evaluation}/poses/adaptation/{w.method}.h5" if is_adapted(w.evaluation) else []
        ),
        code=code("isopose.evaluation.official"),
    output:
        f"{RESULTS}/{{evaluation}}/official/{{method}}.csv",
    log:
        f"{LOGS}/{{evaluation}}/official_scores/{{method}}.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/official_scores/{{method}}.tsv"
    wildcard_constraints:
        evaluation=any_of(WITH_PROTOCOL),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        protocol=lambda w: text(own(w.evaluation, "protocol").value, own(w.evaluation, "protocol")),
        stores=lambda w, input: store_options(input.stores),
        fit=lambda w, input: (
            f"--fit-poses {input.fit_poses} {store_options(input.fit_stores, '--fit-store')}"
            if input.fit_poses
            else ""
        ),
    shell:
        "python -m isopose.evaluation.official --protocol {params.protocol} {params.stores} --poses {input.poses}"
        " {params.fit} --output {output} > {log} 2>&1"


rule forecast:
    input:
        stores=lambda w: labelled(w.evaluation, "dynamics"),
        detections=f"{RESULTS}/{{evaluation}}/detections/dynamics.h5",
        lifter=lambda w: f"{RESULTS}/{owner(w.evaluation)}/lifters/{w.variant}/seed{w.seed}/lifter.safetensors",
        code=code("isopose.evaluation.forecast"),
    output:
        f"{RESULTS}/{{evaluation}}/forecast/{{variant}}/seed{{seed}}.csv",
    log:
        f"{LOGS}/{{evaluation}}/forecast/{{variant}}/seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/{{evaluation}}/forecast/{{variant}}/seed{{seed}}.tsv"
    wildcard_constraints:
        evaluation=any_of(WITH_DYNAMICS),
    conda:
        "../../environment.yml"
    threads: config["lifting"]["threads"]
    resources:
        mem_mb=2000,
        runtime=60,
        gpu=GPU,
    params:
        options=lambda w: options(section("lifting", without=("flip",)), device=value("device")),
        stores=lambda w, input: store_options(input.stores),
    shell:
        "python -m isopose.evaluation.forecast {params.stores} --detections {input.detections} --lifter {input.lifter}"
        " --output {output} --params {params.options:q} > {log} 2>&1"
