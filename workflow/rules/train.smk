# Stored frames and captions -> trained weights. Checkpoints are no output: Snakemake deletes those of a failed job.


rule pretrained_weights:
    output:
        layout.PRETRAINED,
    log:
        log_file("weights/{backbone}/{weights}"),
    priority: 1
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 12000 * attempt,  # ViT-H-14 twice; ViT-bigG-14 takes two attempts
    params:
        code=code_of("centerclip.commands.weights"),
        downloads=f"{PREFIX}{layout.DOWNLOADS}/clip",
    shell:
        "python -m centerclip weights --backbone {wildcards.backbone} --weights {wildcards.weights}"
        " --downloads {params.downloads} --out {output} --log {log}"


rule train:
    input:
        untrained,
        cell=layout.CELL,
        manifest=manifest,
        frames=frames(),
        pretrained=pretrained,
    output:
        weights=layout.WEIGHTS,
        history=layout.HISTORY,
    log:
        log_file("{benchmark}/{variant}/train"),
    benchmark:
        times_file("{benchmark}/{variant}/train")
    priority: 1
    conda:
        ENVIRONMENT
    threads: lambda wildcards: cell(wildcards).runtime.threads * cell(wildcards).runtime.gpus
    resources:
        gpu=lambda wildcards: cell(wildcards).runtime.gpus,
        mem_mb=lambda wildcards, attempt: 24000 * attempt,
        runtime=lambda wildcards, attempt: min(720 * attempt, 1440),
        options=training_options,
    params:
        made_from=lambda wildcards: trained_from(cell(wildcards)),
    shell:
        "python -m centerclip train {input.cell} --gpus {resources.gpu} --threads {threads} {resources.options} --log {log}"
