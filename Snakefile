# CenterCLIP reproduced: videos and captions in; recall tables, plots and a report out. Stages are in workflow/rules.
from snakemake.utils import min_version

min_version("9.27")


configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


wildcard_constraints:
    benchmark="[a-z0-9-]+",
    variant="[a-z0-9_-]+",
    backbone="[A-Za-z0-9-]+",
    size=r"\d+",
    shard=r"\d{4}",


include: "workflow/rules/common.smk"
include: "workflow/rules/manifest.smk"
include: "workflow/rules/frames.smk"
include: "workflow/rules/weights.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/efficiency.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/pictures.smk"


localrules:
    all,


rule all:
    default_target: True
    input:
        expand("results/tables/{benchmark}.md", benchmark=BENCHMARKS),
        "results/tables/summary.md",
        [f"results/plots/{name}_{plot}.{end}" for name in BENCHMARKS for plot in plots(name) for end in ("png", "svg")],
        [f"results/plots/{name}_{picture}.png" for name in BENCHMARKS for picture in pictures(name)],
