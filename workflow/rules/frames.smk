# Video files -> stored frames of a dataset, in shards, a job each; their report.


rule frames:
    input:
        splits=layout.SPLITS,
        manifests=lambda wildcards: plan.manifests(*resolve.benchmarks_of(config, wildcards.dataset)),
    output:
        # Not removed beforehand: frames of unchanged videos are taken over.
        shard=update(layout.SHARD),
        report=update(layout.SHARD_REPORT),
    log:
        log_file("{dataset}/frames/{size}px_{shard}"),
    benchmark:
        layout.JOB_BENCHMARK.format(job="{dataset}/frames/{size}px_{shard}")
    priority: 1
    conda:
        ENVIRONMENT
    resources:
        runtime=lambda wildcards, attempt: 240 * attempt,
        options=lambda wildcards: plan.frames_options(wildcards.dataset),
    params:
        failed=last_failure("{dataset}/frames/{size}px_{shard}"),
        revision=revisions.FRAMES,
        clips=lambda wildcards: plan.shards(wildcards.dataset)[int(wildcards.shard)],
        fps=lambda wildcards: config["benchmarks"][wildcards.dataset]["fps"],
        shards=lambda wildcards: config["benchmarks"][wildcards.dataset]["shards"],
    shell:
        "python -m centerclip frames {output.shard} --splits {input.splits} --manifests {input.manifests}"
        " --shards {params.shards} --fps {params.fps} --size {wildcards.size} {resources.options} --log {log}"


rule frames_report:
    input:
        lambda wildcards: plan.shard_reports(**wildcards),
    output:
        layout.FRAMES,
    log:
        log_file("{dataset}/frames/{size}px_report"),
    priority: 1
    conda:
        ENVIRONMENT
    params:
        failed=last_failure("{dataset}/frames/{size}px_report"),
        clips=lambda wildcards: plan.shards(wildcards.dataset),
    shell:
        "python -m centerclip frames-report {input} --out {output} --log {log}"
