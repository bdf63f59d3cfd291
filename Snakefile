# isopose: 3D human pose estimation with inference stage optimisation, from motion to tables.
# Numbers are in params.yaml; another track is an overlay: --configfile experiments/open/params.yaml


configfile: "params.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/rows.smk"
include: "workflow/rules/datasets.smk"
include: "workflow/rules/occlusion.smk"
include: "workflow/rules/estimator.smk"
include: "workflow/rules/lifter.smk"
include: "workflow/rules/iso.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/reporting.smk"


report: "workflow/report/workflow.rst"


rule all:
    default_target: True
    input:
        f"{REPORTS}/index.html",


onerror:
    for line in failures.summary(log):
        logger.error(line)
