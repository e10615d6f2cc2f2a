"""Who sees texture and edges, who sees colour and shape, and what self-attention does with them.
Each number comes from the arrays beside it; through depth, high and low stand beside random splits."""

from app import frequency_views, pickers
from app.notices import heading

heading("Frequency", __doc__)
run = pickers.run()
frequency_views.lessons_of(run)
frequency_views.show(run)
