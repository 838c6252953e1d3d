"""What medspaCy reads in sentences of reports, for a comparison on the same sentences.

Arguments: the file of findings and the file of sentences. Prints a line for each sentence, in order:
its claims, separated by semicolons. medspaCy is given the phrases of the findings as targets, and
its own rules of context, as they come with it.
"""

import logging
import sys

import medspacy  # noqa: F401  (registers the parts of the pipeline)
import spacy
from loguru import logger
from medspacy.target_matcher import TargetRule

logger.remove()
logging.disable(logging.CRITICAL)


def rows(path):
    with open(path, encoding="utf-8") as lines:
        return [line.rstrip("\n").split("\t") for line in lines if not line.startswith("#")]


def targets(path):
    """Phrases and the finding that each is of: a general word is of the one it stands for alone."""
    known = {}
    for is_general in (False, True):
        for name, _, _, sites, english, _ in rows(path):
            for phrase in english.split("|"):
                if phrase.startswith("-") or "~" in phrase[1:] or "$" in phrase:
                    continue
                if phrase.startswith("~") != is_general:
                    continue
                if is_general and "none" not in sites.split(","):
                    continue
                plain = phrase.lstrip("~")
                for form in (plain, plain + "s", plain + "es"):
                    known.setdefault(form, name)
    return [TargetRule(phrase, name) for phrase, name in known.items()]


def claim(entity):
    """A claim in our words. Change since an earlier examination is nothing that medspaCy tells."""
    context = entity._
    person = " family" if context.is_family else ""
    if context.is_hypothetical:
        return f"{entity.label_}=unknown hypothetical{person}"
    presence = "absent" if context.is_negated else "possible" if context.is_uncertain else "present"
    time = " historical" if context.is_historical else ""
    return f"{entity.label_}={presence}{time}{person}"


def main():
    concepts, sentences = sys.argv[1:]
    pipeline = spacy.blank("en")
    pipeline.add_pipe("medspacy_pyrush")
    pipeline.add_pipe("medspacy_target_matcher").add(targets(concepts))
    pipeline.add_pipe("medspacy_context")
    for _, sentence, _ in rows(sentences):
        print(";".join(claim(entity) for entity in pipeline(sentence).ents))


main()
