# Video files -> stored frames of a dataset, in shards that one job each makes; their report, and a benchmark's check of it.


rule frames:
    input:
        shard_digest,
        manifests=manifests_of,
    output:
        # Not removed beforehand: what it has of videos that did not change is taken over.
        shard=update(layout.SHARD),
        report=update(layout.SHARD_REPORT),
    log:
        log_file("{dataset}/frames/{size}px_{shard}"),
    benchmark:
        times_file("{dataset}/frames/{size}px_{shard}")
    conda:
        ENVIRONMENT
    resources:
        runtime=lambda wildcards, attempt: 240 * attempt,
        stall_seconds=str(config["stall_seconds"]),
    params:
        failed=last_failure("{dataset}/frames/{size}px_{shard}"),
        code=code_of("centerclip.video.shards"),
        clips=lambda wildcards: "" if is_folder(wildcards.dataset) else clips_digest(wildcards),
        fps=of_benchmark("fps"),
        shards=of_benchmark("shards"),
    shell:
        "python -m centerclip frames {output.shard} --manifests {input.manifests} --shards {params.shards}"
        " --fps {params.fps} --size {wildcards.size} --stall-seconds {resources.stall_seconds} --log {log}"


rule frames_report:
    input:
        shards=shard_reports,
    output:
        layout.FRAMES,
    log:
        log_file("{dataset}/frames/{size}px_report"),
    conda:
        ENVIRONMENT
    params:
        failed=last_failure("{dataset}/frames/{size}px_report"),
        code=code_of("centerclip.commands.frames_report"),
    shell:
        "python -m centerclip frames-report {input.shards} --out {output} --log {log}"


rule check_frames:
    input:
        manifest=layout.MANIFEST,
        frames=frames_of_benchmark,
    output:
        update(layout.FRAMES_CHECK),  # kept where a check fails, as that of the counts
    log:
        log_file("{benchmark}/check_frames_{size}px"),
    priority: 1
    conda:
        ENVIRONMENT
    params:
        failed=last_failure("{benchmark}/check_frames_{size}px"),
        share=of_benchmark("max_unreadable_share"),
    shell:
        "python -m centerclip check-frames --manifest {input.manifest} --frames {input.frames}"
        " --max-unreadable-share {params.share} --out {output} --log {log}"
