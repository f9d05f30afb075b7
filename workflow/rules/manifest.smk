# A dataset's raw files -> a benchmark's manifest, a row a caption, and the check of its counts.


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
    conda:
        ENVIRONMENT
    resources:
        runtime=lambda wildcards, attempt: 720 * attempt,
    params:
        failed=last_failure("{dataset}/fetch"),
        code=fetch_code,
    shell:
        "python -m centerclip fetch {input.benchmark} --log {log}"


rule manifest:
    input:
        benchmark=layout.BENCHMARK,
        raw=raw_files,
    output:
        layout.MANIFEST,
    log:
        log_file("{benchmark}/manifest"),
    conda:
        ENVIRONMENT
    params:
        failed=last_failure("{benchmark}/manifest"),
        code=manifest_code,
        captions=lambda wildcards: planning.captions(source_of(wildcards.benchmark)),
    shell:
        "python -m centerclip manifest {input.benchmark} --log {log}"


rule check_counts:
    input:
        manifest=layout.MANIFEST,
    output:
        update(layout.COUNTS_CHECK),  # kept where a check fails, so that nothing behind it is made anew after it is put right
    log:
        log_file("{benchmark}/check_counts"),
    priority: 1
    conda:
        ENVIRONMENT
    params:
        failed=last_failure("{benchmark}/check_counts"),
        expect=expected_counts,
    shell:
        "python -m centerclip check-counts {wildcards.benchmark} --manifest {input.manifest}"
        " --expect {params.expect} --out {output} --log {log}"
