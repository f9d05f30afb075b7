# A benchmark's raw files -> its manifest, a row a caption.


rule fetch:
    input:
        code=fetch_code,
        local=local_files,
    output:
        directory("results/{benchmark}/source"),
    log:
        "results/logs/{benchmark}/fetch.log",
    conda:
        ENVIRONMENT
    params:
        source=source,
    shell:
        "python -m centerclip.manifest fetch --benchmark {wildcards.benchmark} --settings {params.source:q}"
        " --out {output} --log {log}"


rule manifest:
    input:
        code=lambda wildcards: code(
            "manifest", f"benchmarks/{config['benchmarks'][wildcards.benchmark]['source']['reader']}"
        ),
        source=raw_files,
    output:
        "results/{benchmark}/manifest.csv",
    log:
        "results/logs/{benchmark}/manifest.log",
    conda:
        ENVIRONMENT
    params:
        source=source,
        captions=captions_state,
        counts=lambda wildcards: json.dumps(config["benchmarks"][wildcards.benchmark].get("counts") or {}),
    shell:
        "python -m centerclip.manifest manifest --benchmark {wildcards.benchmark} --settings {params.source:q}"
        " --source results/{wildcards.benchmark}/source --counts {params.counts:q} --out {output} --log {log}"
