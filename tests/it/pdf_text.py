"""Prints the properties of a PDF and the text of each page. Reads base 64 from standard input."""

import base64
import io
import sys

import pypdf

reader = pypdf.PdfReader(io.BytesIO(base64.b64decode(sys.stdin.read(), validate=True)), strict=True)
catalog = reader.trailer["/Root"]
metadata = catalog["/Metadata"].get_data().decode("utf8")


def is_inside(font):
    font = font.get_object()
    descendants = font.get("/DescendantFonts")
    if descendants is not None:
        return all(is_inside(it) for it in descendants.get_object())
    descriptor = font["/FontDescriptor"].get_object()
    return any(it in descriptor for it in ("/FontFile", "/FontFile2", "/FontFile3"))


def conformance():
    part = metadata.split("<pdfaid:part>")[1].split("<")[0]
    return part + metadata.split("<pdfaid:conformance>")[1].split("<")[0]


fonts = [font for page in reader.pages for font in page["/Resources"]["/Font"].values()]
sys.stdout.reconfigure(encoding="utf8")
print("tagged:", bool(catalog["/MarkInfo"]["/Marked"]) and "/StructTreeRoot" in catalog)
print("conforms to:", conformance())
print("fonts inside:", bool(fonts) and all(is_inside(it) for it in fonts))
print("title:", metadata.split('<rdf:li xml:lang="')[1].split(">")[1].split("<")[0])
for page in reader.pages:
    print("\f" + page.extract_text())
