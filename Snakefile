# CenterCLIP reproduced: videos and captions in; recall tables, plots and a report out. The steps are in workflow/rules.
from snakemake.utils import min_version

min_version("9.27")


configfile: f"{workflow.current_basedir}/config/config.yaml"


report: "workflow/report/workflow.rst"


for part in ("common", "inputs", "settings", "manifest", "frames", "train", "evaluate", "report"):

    include: f"workflow/rules/{part}.smk"


rule all:
    default_target: True
    input:
        expand(f"{layout.TABLE}.md", benchmark=BENCHMARKS),
        f"{layout.SUMMARY}.md",
        f"{layout.FULL_SIZE_PLOT}.png" if config["run"]["full_size"] else [],
        [figure for benchmark in BENCHMARKS for figure in plan.figures(benchmark)],
    localrule: True
