# Stored frames and captions -> trained weights. Checkpoints are no output: Snakemake deletes those of a failed job.


rule train:
    input:
        code=lambda wildcards: code("training", "processes") + cell_code(wildcards),
        manifest="results/{benchmark}/manifest.csv",
        frames=frames_report,
        pretrained=pretrained,
    output:
        weights="results/{benchmark}/{variant}/weights.safetensors",
        history="results/{benchmark}/{variant}/history.json",
    log:
        "results/logs/{benchmark}/{variant}/train.log",
    conda:
        ENVIRONMENT
    threads: lambda wildcards: settings(wildcards)["training"]["threads"] * settings(wildcards)["training"]["gpus"]
    resources:
        gpu=lambda wildcards: settings(wildcards)["training"]["gpus"],
    params:
        settings=essence,
        conduct=conduct,
        checkpoints="results/{benchmark}/{variant}/checkpoints",
    shell:
        "python -m centerclip.gpus {resources.gpu} python -m centerclip.training --settings {params.settings:q}"
        " --conduct {params.conduct:q} --code {input.code}"
        " --manifest {input.manifest} --frames {input.frames} --threads {threads} --checkpoints {params.checkpoints}"
        " --weights {output.weights} --history {output.history} --log {log}"
