"""reid_core turns images of people into embeddings, and can be watched while it does.

In reading order:

    models       one paper, one file; what computes
    probe        named windows on a model's interior
    data         images, identities, cameras; the synthetic pedestrians
    experiment   every knob, once
    losses       the objective of a training step
    train        one training run
    extraction   images through a model, as fast as the model goes
    embed        images in, embeddings out
    ranking      who is nearer than whom, at the speed of the matrix product
    evaluate     embeddings in, mAP, CMC and mINP out
    scores       protocols, thresholds, records, and what others report
    retrieve     the same ranking for one query
    runs         what was kept: the folder checkpoints/<name>/
    jobs         trainings and studies as processes of their own
    look         images in, embeddings out, and what was seen on the way
    analysis     tensors in, arrays out: what the pages draw
    studies      analyses that take longer than a page may
    official     checkpoints of the papers' official code, in
    export       inference graphs, out
"""

import os

# Must be said before torch is loaded. Threads that wait for one another spin first; when another
# program wants the same cores they spin for a processor that is not theirs, and both crawl. With so
# few turns a training alone is hardly slower, and two at once share the cores fairly.
os.environ.setdefault("GOMP_SPINCOUNT", "6000")

# No other imports: the renderer's worker processes come through here and need no torch.
__version__ = "0.1.0"
