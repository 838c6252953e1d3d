"""Compares the rows of reports with what the laboratory sent: ORU by hl7apy, FHIR by fhir.resources.

Usage: laboratory.py FOLDER, with NUMBER.hl7, NUMBER.json and NUMBER.sent for each message.
"""
import json
import pathlib
import sys
import traceback

from fhir.resources.R4B.bundle import Bundle
from hl7apy.parser import parse_message

SEQUENCES = {"F": "|", "S": "^", "T": "&", "R": "~", "E": "\\", ".br": "\n", "X09": "\t"}


def plain(text):
    parts = text.split("\\")
    return "".join(it if at % 2 == 0 else SEQUENCES[it] for at, it in enumerate(parts))


def field(segment, number):
    name = f"{segment.name}_{number}".lower()
    fields = getattr(segment, name)
    text = "~".join(it.to_er7() for it in fields) if len(fields) else ""
    # The reader takes the escape characters of a line break for text.
    return text.replace("\\E\\.br\\E\\", "\\.br\\")


def component(segment, number, place):
    parts = field(segment, number).split("^")
    return plain(parts[place]) if place < len(parts) else ""


def rows_of_message(text):
    """The OBX that were read from a document, each with its NTE."""
    message = parse_message(text, find_groups=False)
    grouped = parse_message(text, find_groups=True)
    results = grouped.oru_r01_patient_result.oru_r01_order_observation
    count = sum(len(it.oru_r01_observation) for it in results)
    assert count == len(message.obx), "an OBX is in no group"
    rows = []
    for segment in message.children:
        if segment.name == "OBX":
            rows.append((segment, []))
        elif segment.name == "NTE" and rows:
            rows[-1][1].append(segment)
    return [it for it in rows if field(it[0], 17).startswith("AI^AI document extraction")]


def check_row(row, sent):
    obx, notes = row
    assert [component(obx, 3, it) for it in range(3)] == sent["name"]
    assert plain(field(obx, 5)) == sent["value"]
    assert plain(field(obx, 6)) == sent["unit"]
    assert plain(field(obx, 7)) == sent["reference"]
    assert field(obx, 8) == sent["flags"]
    assert field(obx, 14) == sent["time"]
    texts = [(field(it, 2), plain(field(it, 3))) for it in notes]
    assert [text for source, text in texts if source == "L"] == sent["notes"]
    check_statements([text for source, text in texts if source == "P"], sent)
    stated = f"Sub-ID of the laboratory: {sent['sub_id']}"
    assert sent["sub_id"] in ("", field(obx, 4)) or ("P", stated) in texts


def check_statements(texts, sent):
    for name, value in [("Panel", sent["panel"]), ("Specimen", sent["specimen"])]:
        assert not value or f"{name}: {value}" in texts, (name, texts)
    status = sent["status"]
    assert status in ("", "F") or f"Status of the laboratory: {status}" in texts


def check_observation(it, sent):
    notes = [note.text for note in it.note or []]
    if it.valueQuantity is not None:
        comparator = it.valueQuantity.comparator or ""
        number = sent["value"].lstrip("<>=")
        assert float(it.valueQuantity.value) == float(number), sent
        assert comparator == sent["value"][: len(sent["value"]) - len(number)]
        assert (it.valueQuantity.unit or "") == sent["unit"]
    else:
        assert it.valueString == sent["value"]
        assert not sent["unit"] or f"Unit: {sent['unit']}" in notes
    ranges = [it.text for it in it.referenceRange or []]
    assert ranges == ([sent["reference"]] if sent["reference"] else [])
    flags = [(flag.coding[0].code if flag.coding else flag.text) for flag in it.interpretation or []]
    assert "~".join(flags) == sent["flags"]
    assert (it.specimen.display if it.specimen else "") == sent["specimen"]
    at = it.effectiveDateTime
    assert (at is None) == (sent["fhir_time"] == ""), sent
    assert notes[: len(sent["notes"])] == sent["notes"]
    check_statements(notes, sent)
    coding = (it.code.coding or [None])[0]
    assert coding.code == sent["name"][0] and it.code.text == sent["name"][1]


def check(folder, number):
    sent = json.loads((folder / f"{number}.sent").read_text("utf-8"))
    text = (folder / f"{number}.hl7").read_bytes().decode("utf-8")
    rows = rows_of_message(text)
    assert len(rows) == len(sent), (len(rows), len(sent))
    for row, expected in zip(rows, sent):
        check_row(row, expected)
    document = json.loads((folder / f"{number}.json").read_text("utf-8"))
    Bundle.model_validate(document)
    resources = [it.resource for it in Bundle.model_validate(document).entry]
    observations = [it for it in resources if it.get_resource_type() == "Observation"]
    own = [it for it in observations if it.identifier[0].value.split("-")[-2] == "row"]
    assert len(own) == len(sent)
    for observation, expected in zip(own, sent):
        check_observation(observation, expected)
    return len(sent)


def main():
    folder = pathlib.Path(sys.argv[1])
    total = 0
    for path in sorted(folder.glob("*.sent")):
        try:
            total += check(folder, path.stem)
        except Exception as problem:
            place = traceback.format_exc(limit=-1)
            sys.exit(f"{path.stem}: {type(problem).__name__} {problem}\n{place}")
    print(total)


main()
