"""Counts the instances of a study by modality. A complete plugin in Python.

Settings: { "modality": "CT" } to count only those.
"""

import os

import isocenter


def check(settings):
    """Says what is wrong with settings, or None."""
    unknown = set(settings) - {"modality"}
    return f"unknown settings: {', '.join(sorted(unknown))}" if unknown else None


def process(context, settings, request):
    """Does the work of one node."""
    study = request.get("study")
    if study is None:
        raise isocenter.Rejected("no_study", "the run is not about a study")
    wanted = settings.get("modality")
    counts, size = {}, 0
    for series in study["series"]:
        if wanted and series["modality"] != wanted:
            continue
        for instance in series["instances"]:
            context.stop_if_cancelled()
            # The file lies here until the call ends: read it with whatever you like.
            size += os.path.getsize(context.files[instance["instance"]])
            counts[series["modality"]] = counts.get(series["modality"], 0) + 1
    if not counts:
        raise isocenter.Rejected("nothing_to_count", "no series of that modality")
    context.log("counted")
    text = ", ".join(f"{count} {modality}" for modality, count in sorted(counts.items()))
    code = {"value": "instances", "scheme": "99ISOCENTER", "meaning": "Number of instances"}
    finding = {"code": code, "site": None, "presence": "present"}
    return {"findings": [{**finding, "text": f"{text} instances, {size} bytes"}]}


isocenter.run("python-count", "1.0.0", process, check)
