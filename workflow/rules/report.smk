# Every cell of a benchmark -> its table beside the paper's numbers, and its plots; all tables -> which claims hold.


rule table:
    input:
        code=code("tables", "documents"),
        paper="config/paper.csv",
        efficiency="results/{benchmark}/efficiency.json",
        cells=cells,
    output:
        csv="results/tables/{benchmark}.csv",
        html=report(
            "results/tables/{benchmark}.html",
            caption="../report/table.rst",
            category="{benchmark}",
            subcategory="tables",
        ),
        shown=multiext("results/tables/{benchmark}", ".md", ".tex"),
    log:
        "results/logs/{benchmark}/table.log",
    conda:
        ENVIRONMENT
    shell:
        "python -m centerclip.tables --paper {input.paper} --efficiency {input.efficiency} --cells {input.cells}"
        " --csv {output.csv} --shown {output.html} {output.shown} --log {log}"


ruleorder: summary > table


rule summary:
    input:
        code=code("summary", "tables", "documents", "clustering/__init__"),
        paper="config/paper.csv",
        tables=expand("results/tables/{benchmark}.csv", benchmark=BENCHMARKS),
    output:
        html=report("results/tables/summary.html", caption="../report/summary.rst", category="summary"),
        shown="results/tables/summary.md",
    log:
        "results/logs/summary.log",
    conda:
        ENVIRONMENT
    params:
        tables=expand("results/tables/{benchmark}.csv", benchmark=config["benchmarks"]),  # other runs' too
    shell:
        "python -m centerclip.summary --paper {input.paper} --tables {params.tables}"
        " --shown {output.html} {output.shown} --log {log}"


rule plot:
    input:
        code=code("plots", "tables"),
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


onerror:
    # With a cell missing Snakemake makes no table: here those that can be, then the summary.
    pending = list(workflow.dag.needrun_jobs())
    awaited = {path for job in pending for path in job.output}
    for job in pending:
        if job.rule.name == "table" and job.input.efficiency not in awaited:
            make_partly(job, f"--outdated {' '.join(awaited.intersection(job.input.cells))}")
    for job in pending:
        if job.rule.name == "summary":
            make_partly(job)
