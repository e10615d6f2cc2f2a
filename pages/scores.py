"""The numbers of a run: under every protocol its embeddings can be judged by, with intervals over the
queries, and the distance below which two pictures count as one person."""

from app import address, cached, cards, pickers, scores
from app.notices import explained, heading

heading("Scores", __doc__)
run = pickers.run()
stamp = run.stamp()
if not run.has_embeddings:
    cards.no_embeddings(run)
    address.stop()
with explained():
    asked = cached.experiment(run.name, stamp)
    chosen = scores.protocol(run, stamp)
    scores.by_protocol(run, stamp, chosen)
    scores.verification(run, stamp, asked, chosen)
