# A cell's weights -> its metrics. The variants of a benchmark, or the paper's models -> their costs, measured together.


rule evaluate:
    input:
        cell=layout.CELL,
        manifest=lambda wildcards: plan.manifests(wildcards.benchmark),
        frames=frames("test"),
        pretrained=lambda wildcards: weights_of(cell(wildcards)),
        trained=lambda wildcards: [str(path) for path in cell(wildcards).trained_files],
    output:
        layout.EVALUATION_RANKS,
        result=layout.EVALUATION,
    log:
        log_file("{benchmark}/{variant}/evaluate"),
    benchmark:
        layout.JOB_BENCHMARK.format(job="{benchmark}/{variant}/evaluate")
    priority: 1
    conda:
        ENVIRONMENT
    threads: config["evaluation"]["threads"]
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: 16000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
        options=options("evaluation_options"),
    params:
        made_from=lambda wildcards: plan.metrics_from(cell(wildcards)),
        precision=config["evaluation"]["precision"],
    shell:
        "python -m centerclip evaluate {input.cell} --gpus {resources.gpu} --threads {threads} {resources.options}"
        " --precision {params.precision} --out {output.result} --log {log}"


# Tables and plots are made of results. After a change of limits, only this check runs again, in a second.
rule result:
    input:
        cell=layout.CELL,
        evaluation=[layout.EVALUATION, layout.EVALUATION_RANKS],
        manifest=layout.MANIFEST,
        frames=frames("test"),
    output:
        update(layout.RESULT),  # kept if a check fails
        update(layout.RANKS),
    log:
        log_file("{benchmark}/{variant}/result"),
    priority: 1
    localrule: True
    conda:
        ENVIRONMENT
    params:
        failed=last_failure("{benchmark}/{variant}/result"),
        made_from=lambda wildcards: plan.metrics_from(cell(wildcards)),
        limits=limits,
    shell:
        "python -m centerclip result {input.cell} {params.limits} --log {log}"


rule efficiency:
    input:
        cells=COMPARED,
    output:
        layout.COSTS.replace("{benchmark}", "{compared}"),
    log:
        log_file("{compared}/efficiency"),
    benchmark:
        layout.JOB_BENCHMARK.format(job="{compared}/efficiency")
    conda:
        ENVIRONMENT
    # Every core, so that no other job runs beside it and disturbs times. Jobs that recall needs have a higher priority.
    threads: all_cores(otherwise=config["training"]["threads"])
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: 24000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
        minutes=str(config["run"]["costs_minutes"]),
    params:
        failed=last_failure("{compared}/efficiency"),
        revisions=lambda wildcards: revisions.of_costs(plan.compared(wildcards.compared)),
        largest_batch=lambda wildcards: 1 if wildcards.compared == layout.FULL_SIZE else 64,  # a minute is enough of it
    shell:
        "python -m centerclip efficiency --cells {input.cells} --largest-batch {params.largest_batch}"
        " --minutes {resources.minutes} --gpus {resources.gpu} --threads {threads} --out {output} --log {log}"
