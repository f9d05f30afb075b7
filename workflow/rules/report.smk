# Every cell of a benchmark -> its table beside the paper's numbers, plots and pictures; costs of the paper's models -> table
# and plot; all tables -> what was found and which claims hold.

ALL_CELLS = [str(cell.path(layout.CELL)) for benchmark in BENCHMARKS for cell in cells(benchmark)]
PAPER = local(os.path.relpath(ROOT / "config/paper.csv"))
FULL_SIZE_TABLE = layout.TABLE.format(benchmark=layout.FULL_SIZE)
MEASURED = "--full-size" if config["run"]["full_size"] else ""


rule table:
    input:
        paper=PAPER,
        costs=costs,
        cells=results,
    output:
        report(f"{layout.TABLE}.html", caption="../report/table.rst", category="{benchmark}", subcategory="tables"),
        multiext(layout.TABLE, ".csv", ".md", ".tex"),
    log:
        log_file("{benchmark}/table"),
    conda:
        ENVIRONMENT
    params:
        code=code_of("centerclip.commands.table"),
        made_from=lambda wildcards: shown_from(wildcards.benchmark),
        costs=costs_option,
        out=stem,
    shell:
        "python -m centerclip table --paper {input.paper} {params.costs} --cells {input.cells}"
        " --out {params.out} --log {log}"


rule full_size:
    input:
        paper=PAPER,
        cells=layout.COMPARED.format(benchmark=layout.FULL_SIZE),
        costs=layout.COSTS.format(benchmark=layout.FULL_SIZE),
    output:
        report(f"{FULL_SIZE_TABLE}.html", caption="../report/full_size.rst", category="full size", subcategory="tables"),
        multiext(FULL_SIZE_TABLE, ".csv", ".md", ".tex"),
    log:
        log_file(f"{layout.FULL_SIZE}/table"),
    conda:
        ENVIRONMENT
    params:
        code=code_of("centerclip.commands.full_size"),
        out=stem,
    shell:
        "python -m centerclip full-size --paper {input.paper} --cells {input.cells} --costs {input.costs}"
        " --out {params.out} --log {log}"


rule full_size_plot:
    input:
        table=f"{FULL_SIZE_TABLE}.csv",
    output:
        report(
            f"{layout.FULL_SIZE_PLOT}.png",
            caption="../report/full_size_plot.rst",
            category="full size",
            subcategory="plots",
            labels={"plot": "costs"},
        ),
        f"{layout.FULL_SIZE_PLOT}.svg",
    log:
        log_file(f"{layout.FULL_SIZE}/plot"),
    conda:
        ENVIRONMENT
    params:
        code=code_of("centerclip.commands.plot", plots.module(plots.FULL_SIZE)),
        plot=plots.FULL_SIZE,
        variants=[cell.variant for cell in full_size()],
    shell:
        "python -m centerclip plot {params.plot} --table {input.table} --variants {params.variants}"
        " --out {output} --log {log}"


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
        code=code_of("centerclip.commands.summary"),
        made_from=lambda wildcards: shown_from(*BENCHMARKS),
        out=stem,
        full_size=lambda wildcards, input: f"--full-size {input.full_size}" if input.full_size else "",
    shell:
        "python -m centerclip summary --paper {input.paper} --tables {input.tables} {params.full_size}"
        " --out {params.out} --findings {output.findings} --log {log}"


rule plot:
    input:
        not_run,
        table=f"{layout.TABLE}.csv",
        cells=results,
    output:
        report(
            f"{layout.PLOT}.png",
            caption="../report/plot.rst",
            category="{benchmark}",
            subcategory="plots",
            labels=plot_labels,
        ),
        f"{layout.PLOT}.svg",
    log:
        log_file("{benchmark}/plot_{plot}"),
    conda:
        ENVIRONMENT
    params:
        code=plot_code,
        made_from=lambda wildcards: shown_from(wildcards.benchmark),
        variants=plotted,
    shell:
        "python -m centerclip plot {wildcards.plot} --table {input.table} --cells {input.cells}"
        " --variants {params.variants} --out {output} --log {log}"


rule picture:
    input:
        cells=pictured(layout.RESULT),
        manifest=layout.MANIFEST,
        frames=pictured(layout.FRAMES),
        weights=pictured_weights,
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
        code=picture_code,
        made_from=lambda wildcards: [digest_of(*evaluated_from(made)) for made in pictured_cells(wildcards)],
    shell:
        "python -m centerclip picture {wildcards.picture} --cells {input.cells} --gpus {resources.gpu}"
        " --threads {threads} --out {output} --log {log}"


onerror:
    # With a cell missing Snakemake makes no table: here those that can be made, under a name of their own.
    shell(
        "python -m centerclip partial --paper {PAPER} --benchmarks {BENCHMARKS} --cells {ALL_CELLS} {MEASURED} || true"
    )
