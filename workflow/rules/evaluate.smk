# Weights -> one cell's metrics and cost.


rule evaluate:
    input:
        code=lambda wildcards: code("costs") + cell_code(wildcards),
        manifest="results/{benchmark}/manifest.csv",
        frames=frames_report,
        pretrained=pretrained,
        trained=trained,
    output:
        "results/{benchmark}_{variant}.json",
    log:
        "results/logs/{benchmark}/{variant}/evaluate.log",
    conda:
        ENVIRONMENT
    threads: config["evaluation"]["threads"]
    resources:
        gpu=1,
    params:
        settings=essence,
        conduct=conduct,
        trained=lambda wildcards, input: (
            f"--weights {input.trained[0]} --history {input.trained[1]}" if input.trained else ""
        ),
    shell:
        "python -m centerclip.gpus {resources.gpu} python -m centerclip.evaluation --settings {params.settings:q}"
        " --conduct {params.conduct:q}"
        " --manifest {input.manifest} --frames {input.frames} {params.trained} --threads {threads} --out {output} --log {log}"
