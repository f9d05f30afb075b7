# A cell's weights -> its metrics. The variants of a benchmark, or the paper's -> what they cost beside each other.


rule evaluate:
    input:
        checks,
        layout.EVALUATE_DIGESTS,
        cell=layout.CELL,
        manifest=manifest,
        frames=path(layout.FRAMES),
        pretrained=pretrained,
        trained=trained,
    output:
        layout.RESULT,
    log:
        log_file("{benchmark}/{variant}/evaluate"),
    benchmark:
        times_file("{benchmark}/{variant}/evaluate")
    conda:
        ENVIRONMENT
    threads: config["evaluation"]["threads"]
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: 16000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
        options=lambda wildcards: cell(wildcards).runtime.evaluation_options,
    shell:
        "python -m centerclip evaluate {input.cell} --gpus {resources.gpu} --threads {threads} {resources.options} --log {log}"


rule efficiency:
    input:
        cells=layout.COMPARED,
    output:
        layout.COSTS,
    log:
        log_file("{benchmark}/efficiency"),
    benchmark:
        times_file("{benchmark}/efficiency")
    conda:
        ENVIRONMENT
    # Every core, so that no other job runs beside it and times are honest.
    threads: all_cores(otherwise=config["training"]["threads"])
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: 24000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        failed=last_failure("{benchmark}/efficiency"),
        code=lambda wildcards: costs_code(compared(wildcards.benchmark)),
        largest_batch=64,
    shell:
        "python -m centerclip efficiency --cells {input.cells} --largest-batch {params.largest_batch}"
        " --gpus {resources.gpu} --threads {threads} --out {output} --log {log}"


use rule efficiency as full_size_efficiency with:
    input:
        cells=layout.COMPARED.format(benchmark=layout.FULL_SIZE),
    output:
        layout.COSTS.format(benchmark=layout.FULL_SIZE),
    log:
        log_file(f"{layout.FULL_SIZE}/efficiency"),
    benchmark:
        times_file(f"{layout.FULL_SIZE}/efficiency")
    params:
        failed=last_failure(f"{layout.FULL_SIZE}/efficiency"),
        code=lambda wildcards: costs_code(full_size()),
        largest_batch=1,  # a minute is enough of it
