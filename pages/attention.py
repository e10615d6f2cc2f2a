"""Where does the model look? Attention comes from the pass that made the embedding, is drawn on the
pixels that it was cut from, and has its numbers beside it; views that pass an image anew say so."""

from app import lessons, microscope, pickers, picture_picker
from app.notices import heading

heading("Attention", __doc__)
run = pickers.run()
if steps := microscope.steps(run):
    lessons.first(f"attention {run.name}", steps[0].set)
    lessons.look_at(steps, "attention")

bar = picture_picker.bar()
picture = picture_picker.pick(run, bar)
view, other = microscope.choose(run, bar)
microscope.show(run, view, picture, other)
