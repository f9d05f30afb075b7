# Results and costs -> tables beside the paper's numbers, plots, pictures; all tables -> a summary of the claims.

ALL_CELLS = [str(cell.path(layout.CELL)) for benchmark in BENCHMARKS for cell in plan.cells(benchmark)]
PAPER = local(os.path.relpath(ROOT / "config/paper.csv"))
FULL_SIZE_TABLE = layout.TABLE.format(benchmark=layout.FULL_SIZE)
MEASURED = "--full-size" if config["run"]["full_size"] else ""


rule table:
    input:
        paper=PAPER,
        costs=layout.COSTS if config["run"]["costs"] else [],
        cells=results,
    output:
        report(f"{layout.TABLE}.html", caption="../report/table.rst", category="{benchmark}", subcategory="tables"),
        multiext(layout.TABLE, ".csv", ".md", ".tex"),
    log:
        log_file("{benchmark}/table"),
    conda:
        ENVIRONMENT
    params:
        made_from=lambda wildcards: plan.tables_from(wildcards.benchmark),
        price=config["run"]["gpu_hour_price"] or "",
        out=lambda wildcards, output: output[0].removesuffix(".html"),
    shell:
        "python -m centerclip table --paper {input.paper} --costs {input.costs} --gpu-hour-price {params.price}"
        " --cells {input.cells} --out {params.out} --log {log}"


rule full_size:
    input:
        paper=PAPER,
        cells=layout.COMPARED.format(benchmark=layout.FULL_SIZE),
        costs=layout.COSTS.format(benchmark=layout.FULL_SIZE),
    output:
        report(f"{FULL_SIZE_TABLE}.html", caption="../report/full_size.rst", category="full size", subcategory="tables"),
        multiext(FULL_SIZE_TABLE, ".csv", ".md", ".tex"),
        png=report(
            f"{layout.FULL_SIZE_PLOT}.png",
            caption="../report/full_size_plot.rst",
            category="full size",
            subcategory="plots",
            labels={"plot": "costs"},
        ),
        svg=f"{layout.FULL_SIZE_PLOT}.svg",
    log:
        table=log_file(f"{layout.FULL_SIZE}/table"),
        plot=log_file(f"{layout.FULL_SIZE}/plot"),
    conda:
        ENVIRONMENT
    params:
        out=lambda wildcards, output: output[0].removesuffix(".html"),
        variants=[made.variant for made in plan.compared(layout.FULL_SIZE)],
    shell:
        "python -m centerclip full-size --paper {input.paper} --cells {input.cells} --costs {input.costs}"
        " --out {params.out} --log {log.table}; python -m centerclip plot full_size --table {params.out}.csv"
        " --variants {params.variants} --out {output.png} {output.svg} --log {log.plot}"


rule summary:
    input:
        paper=PAPER,
        tables=expand(f"{layout.TABLE}.csv", benchmark=BENCHMARKS),
        full_size=[f"{FULL_SIZE_TABLE}.csv"] if config["run"]["full_size"] else [],
    output:
        report(f"{layout.SUMMARY}.html", caption="../report/summary.rst", category="summary"),
        f"{layout.SUMMARY}.md",
        findings=layout.FINDINGS,
    log:
        log_file("summary"),
    conda:
        ENVIRONMENT
    params:
        made_from=lambda wildcards: plan.tables_from(*BENCHMARKS),
        out=lambda wildcards, output: output[0].removesuffix(".html"),
        tolerance=config["run"]["tolerance"],
    shell:
        "python -m centerclip summary --paper {input.paper} --tables {input.tables} --full-size {input.full_size}"
        " --tolerance {params.tolerance} --out {params.out} --findings {output.findings} --log {log}"


rule plot:
    input:
        lambda wildcards: plan.not_run(wildcards.plot) or [],
        table=f"{layout.TABLE}.csv",
        cells=results,
    output:
        report(
            f"{layout.PLOT}.png",
            caption="../report/plot.rst",
            category="{benchmark}",
            subcategory="plots",
            labels=lambda wildcards: {"plot": re.sub("[-_]", " ", wildcards.plot)},
        ),
        f"{layout.PLOT}.svg",
    log:
        log_file("{benchmark}/plot_{plot}"),
    conda:
        ENVIRONMENT
    params:
        made_from=lambda wildcards: plan.tables_from(wildcards.benchmark),
        variants=lambda wildcards: plan.plotted(wildcards.benchmark, wildcards.plot),
    shell:
        "python -m centerclip plot {wildcards.plot} --table {input.table} --cells {input.cells}"
        " --variants {params.variants} --out {output} --log {log}"


rule picture:
    input:
        cells=pictured(lambda cell: [cell.path(layout.RESULT)]),
        ranks=pictured(lambda cell: [cell.path(layout.RANKS)]),
        manifest=layout.MANIFEST,
        frames=pictured(lambda cell: [cell.path(layout.FRAMES)]),
        weights=pictured(lambda cell: cell.trained_files[:1] or weights_of(cell)),
    output:
        report(layout.PICTURE, caption="../report/picture.rst", category="{benchmark}", subcategory="pictures"),
    log:
        log_file("{benchmark}/picture_{picture}"),
    conda:
        ENVIRONMENT
    threads: config["evaluation"]["threads"]
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: 16000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        made_from=lambda wildcards: list(map(plan.metrics_from, plan.pictured(wildcards.benchmark, wildcards.picture))),
    shell:
        "python -m centerclip picture {wildcards.picture} --cells {input.cells} --gpus {resources.gpu}"
        " --threads {threads} --out {output} --log {log}"


onerror:
    # Snakemake makes no table if a cell is missing. This makes the possible ones, as *.partial.md.
    shell(
        "python -m centerclip partial --paper {PAPER} --benchmarks {BENCHMARKS} --cells {ALL_CELLS} {MEASURED}"
        " --tolerance {config[run][tolerance]} || true"
    )
