"""What papers, their official repositories and users report, each number with where it was read,
beside what the runs here gave. Numbers compare under the same protocol alone."""

from app import ledger
from app.notices import explained, heading

heading("Ledger", __doc__)
with explained():
    found = ledger.read()
ledger.show(found)
