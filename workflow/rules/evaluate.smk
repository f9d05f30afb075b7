# A cell's weights -> its metrics. The variants of a benchmark, or the paper's -> what they cost beside each other.


localrules:
    result,


rule evaluate:
    input:
        cell=layout.CELL,
        manifest=manifest,
        frames=frames("test"),
        pretrained=pretrained,
        trained=trained,
    output:
        layout.EVALUATION,
    log:
        log_file("{benchmark}/{variant}/evaluate"),
    benchmark:
        times_file("{benchmark}/{variant}/evaluate")
    priority: 1
    conda:
        ENVIRONMENT
    threads: config["evaluation"]["threads"]
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: 16000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
        options=evaluation_options,
    params:
        made_from=lambda wildcards: evaluated_from(cell(wildcards)),
    shell:
        "python -m centerclip evaluate {input.cell} --gpus {resources.gpu} --threads {threads} {resources.options}"
        " --out {output} --log {log}"


# All that is made of a cell is made of its result: limits that change are checked again, in a second, and hide nothing.
rule result:
    input:
        cell=layout.CELL,
        evaluation=layout.EVALUATION,
        manifest=layout.MANIFEST,
        frames=frames("test"),
    output:
        update(layout.RESULT),  # kept where a check fails
    log:
        log_file("{benchmark}/{variant}/result"),
    priority: 1
    conda:
        ENVIRONMENT
    params:
        failed=last_failure("{benchmark}/{variant}/result"),
        code=code_of("centerclip.commands.result"),
        made_from=lambda wildcards: evaluated_from(cell(wildcards)),
        limits=limits,
    shell:
        "python -m centerclip result {input.cell} {params.limits} --log {log}"


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
    # Every core, so that no other job runs beside it and times are honest. All that recall needs has a higher priority.
    threads: all_cores(otherwise=config["training"]["threads"])
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: 24000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
        minutes=str(config["run"]["costs_minutes"]),
    params:
        failed=last_failure("{benchmark}/efficiency"),
        code=lambda wildcards: costs_code(compared(wildcards.benchmark)),
        largest_batch=64,
    shell:
        "python -m centerclip efficiency --cells {input.cells} --largest-batch {params.largest_batch}"
        " --minutes {resources.minutes} --gpus {resources.gpu} --threads {threads} --out {output} --log {log}"


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
