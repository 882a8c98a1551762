"""Write the documents in `deploy/contracts`; this is ``make contracts``."""

from tests.integration.contracts import FOLDER, documents

FOLDER.mkdir(parents=True, exist_ok=True)
for name, text in documents().items():
    (FOLDER / name).write_text(text)
