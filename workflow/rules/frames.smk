# Video files -> stored frames, in shards that one job each makes, and a report of the videos that gave none.


rule frames:
    input:
        code=code("decoding", "extraction", "frames"),
        manifest="results/{benchmark}/manifest.csv",
    output:
        # Not removed beforehand: what it has of videos that did not change is taken over.
        shard=update("results/{benchmark}/frames/{size}px/{shard}.lmdb"),
        report=update("results/{benchmark}/frames/{size}px/{shard}.csv"),
    log:
        "results/logs/{benchmark}/frames/{size}px_{shard}.log",
    conda:
        ENVIRONMENT
    params:
        fps=lambda wildcards: config["benchmarks"][wildcards.benchmark]["fps"],
        shards=lambda wildcards: config["benchmarks"][wildcards.benchmark]["shards"],
        files=video_files,
        stall_seconds=lambda wildcards, threads: config["stall_seconds"],
    shell:
        "python -m centerclip.frames shard --manifest {input.manifest} --size {wildcards.size} --fps {params.fps}"
        " --shard {wildcards.shard} --shards {params.shards} --code {input.code}"
        " --stall-seconds {params.stall_seconds} --out {output.shard} --log {log}"


rule frames_report:
    input:
        code=code("frames"),
        shards=lambda wildcards: expand(
            "results/{benchmark}/frames/{size}px/{shard:04d}.csv",
            benchmark=wildcards.benchmark,
            size=wildcards.size,
            shard=range(config["benchmarks"][wildcards.benchmark]["shards"]),
        ),
    output:
        "results/{benchmark}/frames/{size}px/report.csv",
    log:
        "results/logs/{benchmark}/frames/{size}px_report.log",
    conda:
        ENVIRONMENT
    params:
        max_bad=lambda wildcards: config["benchmarks"][wildcards.benchmark]["max_bad"],
    shell:
        "python -m centerclip.frames report --shards {input.shards} --max-bad {params.max_bad} --out {output} --log {log}"
