# The config -> json files that the commands read. Snakemake renders them itself.

JSON_TEMPLATE = ancient(local(os.path.relpath(ROOT / "workflow/templates/json.jinja2")))  # made by no rule


localrules:
    benchmark_settings,
    cell_settings,
    compared_settings,
    full_size_settings,
    splits,


rule benchmark_settings:
    input:
        JSON_TEMPLATE,
    output:
        layout.BENCHMARK,
    log:
        log_file("{benchmark}/benchmark_settings"),
    priority: 2  # which `manifest` waits for
    params:
        json=lambda wildcards: json.dumps(resolve.benchmark_settings(config, wildcards.benchmark), indent=2),
    template_engine:
        "jinja2"


rule cell_settings:
    input:
        JSON_TEMPLATE,
        misfit,
    output:
        layout.CELL,
    log:
        log_file("{benchmark}/{variant}/cell_settings"),
    priority: 1
    params:
        json=lambda wildcards: cell_json(cell(wildcards)),
    template_engine:
        "jinja2"


rule compared_settings:
    input:
        JSON_TEMPLATE,
    output:
        layout.COMPARED,
    log:
        log_file("{benchmark}/compared_settings"),
    params:
        json=lambda wildcards: json.dumps([cell.cost_settings() for cell in compared(wildcards.benchmark)], indent=2),
    template_engine:
        "jinja2"


use rule compared_settings as full_size_settings with:
    output:
        layout.COMPARED.format(benchmark=layout.FULL_SIZE),
    log:
        log_file(f"{layout.FULL_SIZE}/compared_settings"),
    params:
        json=lambda wildcards: json.dumps([cell.cost_settings() for cell in full_size()], indent=2),


rule splits:
    input:
        JSON_TEMPLATE,
    output:
        layout.SPLITS,
    log:
        log_file("{dataset}/splits"),
    priority: 1
    params:
        json=lambda wildcards: json.dumps({"splits": splits_stored(wildcards.dataset)}),
    template_engine:
        "jinja2"
