# OpenAI's weights, downloaded once and converted.


rule weights:
    output:
        "results/weights/{backbone}.safetensors",
    log:
        "results/logs/weights/{backbone}.log",
    conda:
        ENVIRONMENT
    shell:
        "python -m centerclip.weights --backbone {wildcards.backbone} --downloads results/downloads/clip"
        " --out {output} --log {log}"
