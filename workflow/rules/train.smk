# Stored frames and captions -> trained weights. Checkpoints are no output: Snakemake deletes outputs of a failed job.


rule pretrained_weights:
    output:
        layout.PRETRAINED,
    log:
        log_file("weights/{backbone}/{weights}"),
    priority: 1
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 12000 * attempt,  # enough for ViT-H-14; ViT-bigG-14 takes two attempts
    params:
        revision=revisions.WEIGHTS,
        downloads=f"{PREFIX}{layout.DOWNLOADS}/clip",
    shell:
        "python -m centerclip weights --backbone {wildcards.backbone} --weights {wildcards.weights}"
        " --downloads {params.downloads} --out {output} --log {log}"


rule train:
    input:
        lambda wildcards: plan.untrained(cell(wildcards)) or [],
        cell=layout.CELL,
        manifest=lambda wildcards: plan.manifests(wildcards.benchmark),
        frames=frames(),
        pretrained=lambda wildcards: weights_of(cell(wildcards)),
    output:
        weights=layout.WEIGHTS,
        history=layout.HISTORY,
    log:
        log_file("{benchmark}/{variant}/train"),
    benchmark:
        layout.JOB_BENCHMARK.format(job="{benchmark}/{variant}/train")
    priority: lambda wildcards: plan.training_priority(cell(wildcards))
    conda:
        ENVIRONMENT
    threads: lambda wildcards: cell(wildcards).runtime.threads * cell(wildcards).runtime.gpus
    resources:
        gpu=lambda wildcards: cell(wildcards).runtime.gpus,
        mem_mb=lambda wildcards, attempt: 24000 * attempt,
        runtime=lambda wildcards, attempt: min(720 * attempt, 1440),
        options=options("training_options"),
    params:
        made_from=lambda wildcards: plan.weights_from(cell(wildcards)),
    shell:
        "python -m centerclip train {input.cell} --gpus {resources.gpu} --threads {threads} {resources.options} --log {log}"
