# Motion sources -> sequence stores: joints in the world, cameras, and their projections.


rule preprocess:
    input:
        # Of a licensed dataset the files stay where they are; what they are stands in their checksums.
        raw=lambda w: [str(CHECKSUMS[name]) for name in [reader(w.source)] if name in CHECKSUMS],
        # The reader is imported by its name: an edit of another one is not this source's business.
        code=lambda w: code("isopose.datasets.preprocess", f"isopose.datasets.{config['sources'][w.source]['reader']}"),
    output:
        f"{RESULTS}/sequences/{{source}}.h5",
    log:
        f"{LOGS}/preprocess/{{source}}.log",
    benchmark:
        f"{BENCHMARKS}/preprocess/{{source}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        options=lambda w: source_options(w.source),
    shell:
        "python -m isopose.datasets.preprocess --output {output} --params {params.options:q} > {log} 2>&1"
