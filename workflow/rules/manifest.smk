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
        layout.JOB_BENCHMARK.format(job="{dataset}/fetch")
    priority: lambda wildcards: plan.fetch_priority(wildcards.dataset)
    conda:
        ENVIRONMENT
    resources:
        runtime=lambda wildcards, attempt: 720 * attempt,
    params:
        failed=last_failure("{dataset}/fetch"),
        revision=lambda wildcards: plan.fetch_revision(wildcards.dataset),
        local=lambda wildcards: [file_state(file) for file in local_files(wildcards)],
    shell:
        "python -m centerclip fetch {input.benchmark} --log {log}"


rule manifest:
    input:
        benchmark=layout.BENCHMARK,
        splits=lambda wildcards: layout.SPLITS.format(dataset=resolve.dataset(config, wildcards.benchmark)),
        raw=lambda wildcards: plan.raw_files(wildcards.benchmark),
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
        revision=revisions.MANIFEST,
        captions=lambda wildcards: plan.captions(wildcards.benchmark),
    shell:
        "python -m centerclip manifest {input.benchmark} --splits {input.splits} {resources.limits} --log {log}"
