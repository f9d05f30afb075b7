# What a benchmark's variants cost beside each other, with random weights and generated videos.


rule efficiency:
    input:
        code=lambda wildcards: code("efficiency", "costs", "training", "processes") + model_code(*compared(wildcards)),
    output:
        "results/{benchmark}/efficiency.json",
    log:
        "results/logs/{benchmark}/efficiency.log",
    conda:
        ENVIRONMENT
    # Every core, so that no other job runs beside it and times are honest. On a cluster, where a job has its cores to
    # itself and `--cores` says nothing: those of a training job.
    threads: lambda wildcards: workflow.resource_settings.cores or config["training"]["threads"]
    resources:
        gpu=1,
    params:
        settings=lambda wildcards: json.dumps([costly(one) for one in compared(wildcards)]),
    shell:
        "python -m centerclip.gpus {resources.gpu} python -m centerclip.efficiency --settings {params.settings:q}"
        " --largest-batch 64 --threads {threads} --out {output} --log {log}"
