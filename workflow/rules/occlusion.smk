# Cylinder Man labels (paper 3.4): which joints of which view are visible.


rule occlusion_labels:
    input:
        sequences=f"{RESULTS}/sequences/{{source}}.h5",
        code=code("isopose.occlusion.label"),
    output:
        f"{RESULTS}/labelled/{{source}}.h5",
    log:
        f"{LOGS}/occlusion_labels/{{source}}.log",
    benchmark:
        f"{BENCHMARKS}/occlusion_labels/{{source}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        options=lambda w: options(section("occlusion")),
    shell:
        "python -m isopose.occlusion.label --sequences {input.sequences} --output {output}"
        " --params {params.options:q} > {log} 2>&1"
