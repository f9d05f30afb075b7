# The config -> json files that the commands read.


for name, file, content in (
    ("benchmark", layout.BENCHMARK, lambda wildcards: resolve.benchmark_settings(config, wildcards.benchmark)),
    ("cell", layout.CELL, lambda wildcards: plan.settings(cell(wildcards))),
    ("compared", COMPARED, lambda wildcards: [made.cost_settings() for made in plan.compared(wildcards.compared)]),
    ("splits", layout.SPLITS, lambda wildcards: {"splits": plan.splits(wildcards.dataset)}),
):

    rule:
        name:
            f"{name}_settings"
        input:
            (lambda wildcards: plan.misfit(cell(wildcards)) or []) if name == "cell" else [],
        output:
            file,
        log:
            log_file(f"{Path(file).parent.relative_to('results')}/{name}_settings"),
        priority: 2  # which `manifest` waits for
        localrule: True
        conda:
            ENVIRONMENT
        params:
            json=lambda wildcards, content=content: json.dumps(content(wildcards), indent=2),
        shell:
            "printf '%s\\n' {params.json:q} > {output} 2> {log}"
