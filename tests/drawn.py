"""What is seen of a figure: its pixels, and whether its texts can be read."""

import io
import itertools

import matplotlib as mpl


def pixels(figure):
    written = io.BytesIO()
    figure.savefig(written, format="png")
    return mpl.image.imread(io.BytesIO(written.getvalue()))


def assert_legible(drawn):
    """No text overlaps another or leaves the figure."""
    pixels(drawn)
    axes = [axis for axis in drawn.axes if axis.axison]
    beyond = {
        label
        for axis in (one for pair in axes for one in (pair.xaxis, pair.yaxis))
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        for label in (tick.label1, tick.label2)
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    }  # matplotlib does not draw these
    texts = [t for axis in axes for t in axis.findobj(mpl.text.Text) if t.get_text()]
    texts = [t for t in texts if t not in beyond]
    texts += [t for legend in drawn.legends for t in legend.get_texts()]
    boxes = [t.get_window_extent() for t in texts if t.get_visible()]
    for box in boxes:
        assert drawn.bbox.padded(1).containsx(box.x0), box
        assert drawn.bbox.padded(1).containsx(box.x1), box
        assert drawn.bbox.padded(1).containsy(box.y0), box
        assert drawn.bbox.padded(1).containsy(box.y1), box
    for one, other in itertools.combinations(boxes, 2):
        assert not one.padded(-1).overlaps(other.padded(-1)), (one, other)
