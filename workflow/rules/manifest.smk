# A dataset's raw files -> a benchmark's manifest, a row a caption, whose counts and video files are checked.


rule fetch:
    input:
        benchmark=layout.BENCHMARK.replace("{benchmark}", "{dataset}"),
        local=local_files,
    output:
        directory(layout.SOURCE),
    log:
        log_file("{dataset}/fetch"),
    benchmark:
        times_file("{dataset}/fetch")
    priority: 1
    conda:
        ENVIRONMENT
    resources:
        runtime=lambda wildcards, attempt: 720 * attempt,
    params:
        failed=last_failure("{dataset}/fetch"),
        code=fetch_code,
        local=lambda wildcards: states(local_files(wildcards)),
    shell:
        "python -m centerclip fetch {input.benchmark} --log {log}"


rule manifest:
    input:
        benchmark=layout.BENCHMARK,
        splits=lambda wildcards: layout.SPLITS.format(dataset=resolve.dataset(config, wildcards.benchmark)),
        raw=raw_files,
    output:
        layout.MANIFEST,
    log:
        log_file("{benchmark}/manifest"),
    priority: 2  # before frames: its checks tell at once what is missing
    conda:
        ENVIRONMENT
    resources:
        limits=limits,
    params:
        failed=last_failure("{benchmark}/manifest"),
        code=manifest_code,
        captions=captions,
    shell:
        "python -m centerclip manifest {input.benchmark} --splits {input.splits} {resources.limits} --log {log}"
