# Score every frame of every set of poses against the truth.


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
