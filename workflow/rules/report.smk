# Every cell of a benchmark -> its table and plots, beside the paper's numbers.


rule table:
    input:
        code=code("tables"),
        paper="config/paper.csv",
        cells=cells,
    output:
        markdown=report(
            "results/tables/{benchmark}.md",
            caption="../report/table.rst",
            category="{benchmark}",
            subcategory="tables",
        ),
        csv="results/tables/{benchmark}.csv",
    log:
        "results/logs/{benchmark}/table.log",
    conda:
        ENVIRONMENT
    shell:
        "python -m centerclip.tables --paper {input.paper} --cells {input.cells}"
        " --markdown {output.markdown} --csv {output.csv} --log {log}"


rule plot:
    input:
        code=code("plots"),
        table="results/tables/{benchmark}.csv",
        cells=cells,
    output:
        png=report(
            "results/plots/{benchmark}_{plot}.png",
            caption="../report/plot.rst",
            category="{benchmark}",
            subcategory="plots",
            labels=lambda wildcards: {"plot": re.sub("[-_]", " ", wildcards.plot)},
        ),
        svg="results/plots/{benchmark}_{plot}.svg",
    log:
        "results/logs/{benchmark}/plot_{plot}.log",
    wildcard_constraints:
        plot="|".join(PLOTS),
    conda:
        ENVIRONMENT
    params:
        drawing=drawing,
    shell:
        "python -m centerclip.plots {params.drawing} --table {input.table} --cells {input.cells}"
        " --out {output.png} {output.svg} --log {log}"
