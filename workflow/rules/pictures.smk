# Cells and the test split -> pictures: which tokens of a video go on, and what the best and worst queries find.


rule picture:
    input:
        code=code("pictures", "retriever"),
        manifest="results/{benchmark}/manifest.csv",
        cells=of_each(lambda shown: f"results/{shown.benchmark}_{shown.variant}.json"),
        frames=of_each(frames_report),
        weights=of_each(lambda shown: trained(shown)[:1] or pretrained(shown)),
    output:
        report(
            "results/plots/{benchmark}_{picture}.png",
            caption="../report/picture.rst",
            category="{benchmark}",
            subcategory="pictures",
        ),
    log:
        "results/logs/{benchmark}/picture_{picture}.log",
    wildcard_constraints:
        picture="tokens|queries",
    conda:
        ENVIRONMENT
    threads: config["evaluation"]["threads"]
    resources:
        gpu=1,
    shell:
        "python -m centerclip.gpus {resources.gpu} python -m centerclip.pictures {wildcards.picture}"
        " --cells {input.cells} --frames {input.frames} --manifest {input.manifest} --threads {threads} --out {output} --log {log}"
