# Video files -> stored frames of a dataset, in shards that one job each makes; their report.


rule frames:
    input:
        splits=layout.SPLITS,
        manifests=manifests_of,
    output:
        # Not removed beforehand: what it has of videos that did not change is taken over.
        shard=update(layout.SHARD),
        report=update(layout.SHARD_REPORT),
    log:
        log_file("{dataset}/frames/{size}px_{shard}"),
    benchmark:
        times_file("{dataset}/frames/{size}px_{shard}")
    priority: 1
    conda:
        ENVIRONMENT
    resources:
        runtime=lambda wildcards, attempt: 240 * attempt,
        options=frames_options,
    params:
        failed=last_failure("{dataset}/frames/{size}px_{shard}"),
        code=code_of("centerclip.data.video.shards"),
        clips=lambda wildcards: clips_digests(wildcards.dataset)[int(wildcards.shard)],
        fps=of_benchmark("fps"),
        shards=of_benchmark("shards"),
    shell:
        "python -m centerclip frames {output.shard} --splits {input.splits} --manifests {input.manifests}"
        " --shards {params.shards} --fps {params.fps} --size {wildcards.size} {resources.options} --log {log}"


rule frames_report:
    input:
        shards=shard_reports,
    output:
        layout.FRAMES,
    log:
        log_file("{dataset}/frames/{size}px_report"),
    priority: 1
    conda:
        ENVIRONMENT
    params:
        failed=last_failure("{dataset}/frames/{size}px_report"),
        code=code_of("centerclip.commands.frames_report"),
        clips=lambda wildcards: digest_of(*clips_digests(wildcards.dataset)),
    shell:
        "python -m centerclip frames-report {input.shards} --out {output} --log {log}"
