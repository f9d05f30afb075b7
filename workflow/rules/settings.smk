# The config -> json files that the commands read; code and the user's own captions -> files with their digests.
# Snakemake renders them itself. A job with a digest among its parameters would not do: of a job behind one that runs,
# Snakemake overlooks that its parameters changed, and an `ancient` input between the two does not trigger it either.

JSON_TEMPLATE = os.path.relpath(ROOT / "workflow/templates/json.jinja2")


localrules:
    benchmark_settings,
    cell_settings,
    compared_settings,
    full_size_settings,
    train_digests,
    evaluate_digests,
    shard_digest,


rule benchmark_settings:
    input:
        ancient(JSON_TEMPLATE),
    output:
        layout.BENCHMARK,
    log:
        log_file("{benchmark}/benchmark_settings"),
    params:
        json=lambda wildcards: json.dumps(resolve.benchmark_settings(config, wildcards.benchmark), indent=2),
    template_engine:
        "jinja2"


rule cell_settings:
    input:
        ancient(JSON_TEMPLATE),
        misfit,
    output:
        layout.CELL,
    log:
        log_file("{benchmark}/{variant}/cell_settings"),
    params:
        json=lambda wildcards: json.dumps(cell(wildcards).settings(), indent=2),
    template_engine:
        "jinja2"


rule compared_settings:
    input:
        ancient(JSON_TEMPLATE),
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


rule train_digests:
    input:
        ancient(JSON_TEMPLATE),
        untrained,
    output:
        layout.TRAIN_DIGESTS,
    log:
        log_file("{benchmark}/{variant}/train_digests"),
    params:
        json=train_digests,
    template_engine:
        "jinja2"


rule evaluate_digests:
    input:
        ancient(JSON_TEMPLATE),
    output:
        layout.EVALUATE_DIGESTS,
    log:
        log_file("{benchmark}/{variant}/evaluate_digests"),
    params:
        json=evaluate_digests,
    template_engine:
        "jinja2"


rule shard_digest:
    input:
        ancient(JSON_TEMPLATE),
    output:
        layout.SHARD_DIGEST,
    log:
        log_file("{dataset}/frames/{size}px_{shard}_digest"),
    params:
        json=lambda wildcards: json.dumps({"clips": clips_digest(wildcards)}),
    template_engine:
        "jinja2"
